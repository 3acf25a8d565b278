"""Gradients as flat vectors, and products of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from dsel.protocol import Objective


def unfreeze(model: torch.nn.Module) -> torch.nn.Module:
    """All parameters are trained, but for sinusoidal positions, which are none: transformers forgets that when it loads a model."""
    model.requires_grad_(True)
    for module in model.modules():
        if "Sinusoidal" in type(module).__name__:
            module.requires_grad_(False)
    return model


def norm(parts: Iterable[torch.Tensor]) -> float:
    """The length of all together, as one vector."""
    return math.sqrt(sum(float(part.detach().double().square().sum()) for part in parts))


@contextmanager
def moved(parameters: Mapping[str, torch.Tensor], direction: Mapping[str, torch.Tensor], step: float) -> Iterator[None]:
    """Inside of `with` the parameters stand `step` times `direction` (by their names) from where they were, and afterwards there again."""
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    try:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.add_(direction[name].to(parameter), alpha=step)
        yield
    finally:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(before[name])


def mean_gradient(model: torch.nn.Module, objective: Objective, batches: Iterable[Any]) -> torch.Tensor:
    """Gradient (parameter,) of the mean token loss over all batches, by all trainable parameters."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    total, count = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device), 0
    for batch in batches:
        here = batch.to(parameters[0].device)
        loss = objective.token_losses(model, here).sum()
        total += torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])
        count += int(objective.predicted(here).sum())
    return total / max(count, 1)


def orthogonal_alignment(own: torch.Tensor, tuned: torch.Tensor, held_out: torch.Tensor) -> float:
    """Alignment with `held_out` of the part of `own` orthogonal to `tuned`: g'.g_dev / |g'|, with
    g' = g - (g.g_ft / g_ft.g_ft) g_ft. All (parameter,); 0 where nothing is left of `own`."""
    own, tuned, held_out = own.double(), tuned.double(), held_out.double()
    rest = own - (own @ tuned) / (tuned @ tuned).clamp_min(1e-30) * tuned
    norm = rest.norm()
    return float(rest @ held_out / norm) if norm > 1e-12 * own.norm() else 0.0
