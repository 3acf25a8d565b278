"""How far a model's outputs are from linear in its parameters, around where it is. (arXiv 2409.19458, section 3)"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from dsel.error import InputError
from dsel.functional.alignment import Direction, by_jvp, trainable
from dsel.functional.gradients import moved, norm

Outputs = Callable[[torch.nn.Module], torch.Tensor]
"""A number for each example (example,) of some batches under a model, such as its log odds."""


class Linearity(NamedTuple):
    """Mean squared relative errors after a move of |D| = `distance` times |theta|: of f + g.D, and of f, for what f has become."""

    distance: float
    with_gradient: float
    without_gradient: float


def linearity_errors(model: torch.nn.Module, outputs: Outputs, direction: Direction, distances: Sequence[float]) -> list[Linearity]:
    """mean_i (|f_i(theta) + g_i.D - f_i(theta + D)| / max(|f_i(theta)|, |f_i(theta + D)|))^2, with D along `direction`, by its length and
    by that of the trained parameters it names. The parameters are afterwards what they were; dropout must be off.

    Errors: a direction of length 0.
    """
    parameters = trainable(model, direction)
    length = norm(direction[name] for name in parameters)
    if length == 0.0:
        raise InputError(
            f"linearity: the direction has length 0 over the {len(parameters)} trained parameters that it names; draw another one"
        )
    values, slopes = by_jvp(model, outputs, {name: direction[name] for name in parameters})
    values, unit = values.detach().double(), norm(parameters.values()) / length
    found = []
    for distance in distances:
        with torch.no_grad(), moved(parameters, direction, distance * unit):
            there = outputs(model).double()
        guess = values + distance * unit * slopes.double()
        found.append(Linearity(distance, _error(guess, there, values), _error(values, there, values)))
    return found


def _error(guess: torch.Tensor, there: torch.Tensor, here: torch.Tensor) -> float:
    """Where both are 0, nothing is wrong."""
    scale = torch.maximum(here.abs(), there.abs()).clamp_min(1e-30)
    return float(((guess - there).abs() / scale).square().mean())
