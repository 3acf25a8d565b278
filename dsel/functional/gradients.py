"""Gradients as flat vectors, and products of them."""

from __future__ import annotations

from collections.abc import Callable

import torch

TokenLosses = Callable[[torch.nn.Module, torch.Tensor], torch.Tensor]


def mean_gradient(model: torch.nn.Module, token_losses: TokenLosses, tokens: torch.Tensor, rows_per_batch: int = 16) -> torch.Tensor:
    """Gradient (parameter,) of the mean token loss of `tokens` (row, time + 1), full rows, by all trainable parameters."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    total = torch.zeros(sum(p.numel() for p in parameters), device=tokens.device)
    for rows in torch.split(tokens, rows_per_batch):
        loss = token_losses(model, rows).sum() / (tokens.shape[0] * (tokens.shape[1] - 1))
        total += torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])
    return total


def orthogonal_alignment(own: torch.Tensor, tuned: torch.Tensor, held_out: torch.Tensor) -> float:
    """Alignment with `held_out` of the part of `own` orthogonal to `tuned`: g'.g_dev / |g'|, with
    g' = g - (g.g_ft / g_ft.g_ft) g_ft. All (parameter,); 0 where nothing is left of `own`."""
    own, tuned, held_out = own.double(), tuned.double(), held_out.double()
    rest = own - (own @ tuned) / (tuned @ tuned).clamp_min(1e-30) * tuned
    norm = rest.norm()
    return float(rest @ held_out / norm) if norm > 1e-12 * own.norm() else 0.0
