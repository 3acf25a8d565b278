"""Losses of tokens from a model's scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from dsel.functional.blocks import IGNORE


def close_up(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Rows (batch, time) of the parts, each padded at its end, as one text: each begins where the one before ends."""
    apart = torch.cat(list(parts), 1)
    padding = apart == IGNORE
    text = apart.gather(1, padding.to(torch.int8).argsort(dim=1, stable=True))
    return text[:, : int((~padding).sum(1).max())]


def outputs_from(logits: torch.Tensor, first: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Those (batch, time, vocabulary) of `labels` (batch, time), of logits (batch, longer time, vocabulary) of which a row's labels begin
    at its place `first` (batch, 1)."""
    at = (first + torch.arange(labels.shape[1], device=labels.device)).clamp_max(logits.shape[1] - 1)
    return logits.gather(1, at[..., None].expand(-1, -1, logits.shape[-1]))


def token_losses(logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Negative log likelihood in nats of `labels` (batch, time) under `logits` (batch, time, vocabulary), 0 at `IGNORE`; with `smoothing`,
    that of labels mixed with the uniform distribution. Of labels that are numbers, half of the squared error of `logits` (batch, time, 1).
    In float32 at least."""
    if labels.is_floating_point():
        squared: torch.Tensor = 0.5 * (wide(logits)[..., 0] - labels) ** 2
        return squared
    flat = wide(logits).flatten(0, 1)
    losses = F.cross_entropy(flat, labels.flatten(), ignore_index=IGNORE, reduction="none", label_smoothing=smoothing)
    return losses.view(labels.shape)


def wide(values: torch.Tensor) -> torch.Tensor:
    """In float32 at least."""
    return values if values.dtype == torch.float64 else values.float()
