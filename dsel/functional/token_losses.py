"""Losses of tokens from a model's scores."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from dsel.functional.blocks import IGNORE


def token_losses(logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Negative log likelihood in nats of `labels` (batch, time) under `logits` (batch, time, vocabulary), 0 at `IGNORE`; with `smoothing`,
    that of labels mixed with the uniform distribution."""
    flat = logits.flatten(0, 1).float()
    losses = F.cross_entropy(flat, labels.flatten(), ignore_index=IGNORE, reduction="none", label_smoothing=smoothing)
    return losses.view(labels.shape)
