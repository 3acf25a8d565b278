"""Gradients at a model's scores: of its loss, and by labels that it draws itself, whose second moment is the Gauss-Newton curvature."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_leaves

from dsel.error import InputError
from dsel.functional.blocks import IGNORE
from dsel.functional.token_losses import wide

if TYPE_CHECKING:
    from dsel.protocol import Losses

LABELS = ("sampled", "empirical", "exact")
_STEP, _FIRST, _SECOND = (number - 2**64 for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))  # as int64
Pass = Callable[[], tuple[torch.Tensor, torch.Tensor]]
AtOutputs = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From scores (batch, time, class) and labels (batch, time) to a gradient at the scores."""


def to_outputs(objective: Losses, model: torch.nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The model's scores of a batch (batch, time, class), and the gradient at them of its summed loss: to go back from there takes half of
    what going back through the loss does."""
    return _with_gradient(objective, model, batch, _of_loss)


def by_labels(objective: Losses, model: torch.nn.Module, batch: Any, labels: str, seed: int) -> Iterator[Pass]:
    """Passes of the model over a batch, which give scores and the gradient at them that its curvature is made of.

    "empirical": that of the loss, by the data's labels. "sampled": by labels that the model draws: which ones hangs on the row, the place
    and the seed, not on the batch. "exact": for every place and class one; together they have the curvature exactly.
    """
    with_gradient = partial(_with_gradient, objective, model, batch)
    if labels == "empirical":
        yield partial(with_gradient, _of_loss)
    elif labels == "sampled":
        yield partial(with_gradient, partial(_drawn, names=row_names(batch), seed=seed))
    elif labels == "exact":
        with torch.no_grad():
            outputs, _ = objective.outputs(model, batch)
        for place in range(outputs.shape[1]):
            for number in range(outputs.shape[2]):
                yield partial(with_gradient, partial(_root, place=place, number=number))
    else:
        raise InputError(f"curvature.labels={labels!r}: must be one of {', '.join(LABELS)}")


def _with_gradient(objective: Losses, model: torch.nn.Module, batch: Any, at_outputs: AtOutputs) -> tuple[torch.Tensor, torch.Tensor]:
    outputs, labels = objective.outputs(model, batch)
    return outputs, at_outputs(outputs.detach(), labels).to(outputs.dtype)


def _of_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Of the summed loss: p less the label's class, or how far numbers are off."""
    if labels.is_floating_point():
        return wide(outputs) - labels[..., None]
    return _less_class(wide(outputs).softmax(-1), labels.clamp_min(0), labels)


def _less_class(p: torch.Tensor, which: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """p less the class `which` (batch, time), in place; 0 where there is no label."""
    p.scatter_add_(-1, which[..., None], p.new_full((), -1.0).expand(*which.shape, 1))
    if bool((unknown := labels == IGNORE).any()):
        p.masked_fill_(unknown[..., None], 0.0)
    return p


def _drawn(outputs: torch.Tensor, labels: torch.Tensor, names: torch.Tensor, seed: int) -> torch.Tensor:
    """Of the summed loss by drawn labels; of numbers, normal noise."""
    luck = _luck(names, labels.shape[1], seed)
    if labels.is_floating_point():
        noise: torch.Tensor = torch.special.ndtri(luck.clamp(1e-12, 1 - 1e-12))[..., None]
        return noise.to(outputs)
    p = wide(outputs).softmax(-1)
    drawn = torch.searchsorted(p.cumsum(-1), luck[..., None].to(p.dtype)).clamp_max(p.shape[-1] - 1)
    return _less_class(p, drawn[..., 0], labels)


def _root(outputs: torch.Tensor, labels: torch.Tensor, place: int, number: int) -> torch.Tensor:
    """At one place, the column of that number of a square root of the loss's curvature by the outputs: sqrt(p_c) (e_c - p)."""
    found = torch.zeros_like(outputs)
    if labels.is_floating_point():
        found[:, place, number] = 1.0
        return found
    p = wide(outputs[:, place]).softmax(-1)
    unit = torch.zeros_like(p)
    unit[:, number] = 1.0
    found[:, place] = (p[:, [number]].sqrt() * (unit - p)).to(outputs.dtype) * (labels[:, place] != IGNORE)[:, None]
    return found


def row_names(batch: Any) -> torch.Tensor:
    """A hash (row,) of what stands in each row of the batch's tensors: not of padding, nor of what else is in the batch."""
    names = torch.zeros(1, dtype=torch.int64)
    for part in tree_leaves(batch):
        if isinstance(part, torch.Tensor):
            rows = part.flatten(1) if part.ndim > 1 else part[:, None]
            values = rows.double().view(torch.int64) if rows.is_floating_point() else rows.long()
            place = torch.arange(1, rows.shape[1] + 1, device=rows.device)
            mixed = _mixed(_mixed(values + 1) + place * _STEP)
            names = _mixed(names.to(rows.device) + (mixed * (values != IGNORE)).sum(1))
    return names


def _luck(names: torch.Tensor, length: int, seed: int) -> torch.Tensor:
    """Numbers from 0 to 1 (row, time), by a row's name, the place and the seed."""
    start = _mixed(names + torch.tensor(seed).to(names) * _STEP)
    mixed = _mixed(start[:, None] + torch.arange(1, length + 1, device=names.device) * _STEP)
    return ((mixed >> 11) & ((1 << 53) - 1)).double() / (1 << 53)


def _mixed(values: torch.Tensor) -> torch.Tensor:
    """Bits spread over the word (splitmix64)."""
    values = (values ^ ((values >> 30) & ((1 << 34) - 1))) * _FIRST
    values = (values ^ ((values >> 27) & ((1 << 37) - 1))) * _SECOND
    return values ^ ((values >> 31) & ((1 << 33) - 1))
