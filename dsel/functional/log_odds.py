"""How sure a model is of an example's right tokens."""

from __future__ import annotations

import math

import torch

FLOOR = 1e-6  # of a probability


def log_odds(losses: torch.Tensor, predicted: torch.Tensor, cap: float = 0.99) -> torch.Tensor:
    """The mean over each example's `predicted` tokens of log(p / (1 - p)) (example,), in float32 at least; p = exp(-loss) of `losses`
    (example, time), held between 1e-6 and `cap`: a token beyond has no gradient. 0 where nothing is predicted. (arXiv 2409.19458)"""
    wide = losses if losses.dtype == torch.float64 else losses.float()
    held = torch.where(predicted, wide, 1.0).clamp(-math.log(cap), -math.log(FLOOR))
    odds = -held - torch.log(-torch.expm1(-held))
    return torch.where(predicted, odds, 0.0).sum(1) / predicted.sum(1).clamp_min(1)
