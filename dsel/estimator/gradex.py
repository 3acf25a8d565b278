"""GradEx: the loss after fine-tuning on a subset of tasks, from gradients at one model (arXiv 2409.19458)."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dsel.context import Context
from dsel.error import InputError
from dsel.features import ByGradients, Features, count_tokens
from dsel.functional.flops import FORWARD, num_parameters
from dsel.functional.masks import Subsets
from dsel.pool import Pool
from dsel.protocol import Estimate
from dsel.subset import Work

if TYPE_CHECKING:
    import torch

    from dsel.functional.projection import Projection
    from dsel.functional.subset_regression import Rows
    from dsel.protocol import Objective

PROBLEMS = ("logistic", "squared")
HIGHEST = math.log(0.99 / 0.01)  # log odds: a probability counts as .99 at most
PROBES = 8  # subsets, of half of the tasks, by which the penalty is chosen
HELD_OUT = 0.2  # of each task's rows, to choose by


@dataclass(frozen=True)
class GradEx(ByGradients):
    """The first-order model f + g.w of each unit's log odds, with g the gradient projected to `dim` dimensions: for a subset of tasks w is
    that of the penalised logistic regression with offset f on the subset's units, and the estimate is the logistic loss of the target's
    units under it. `evaluate_by="forward"` instead moves the model's parameters along w, to `scale` times their own norm where that is
    given, and measures the target's loss by forward passes.

    `problem`: "squared" takes in the place of the logistic loss, in the fit only, the squared distance of the log odds from the highest
    that they can be (a probability of .99), which has a solution in closed form. `penalty`: null = of `penalties` the one with the lowest
    loss on rows that are held out of the fit.
    """

    problem: str = "logistic"
    penalty: float | None = None
    penalties: Sequence[float] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    evaluate_by: str = "linear"
    scale: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, allowed in (("problem", PROBLEMS), ("evaluate_by", ("linear", "forward"))):
            if getattr(self, key) not in allowed:
                raise InputError(f"estimator.{key}={getattr(self, key)!r}: must be one of {', '.join(allowed)}")
        if self.penalty is not None and self.penalty <= 0:
            raise InputError(f"estimator.penalty={self.penalty}: must be above 0, or null")
        if self.penalty is None and (not self.penalties or min(self.penalties) <= 0):
            raise InputError(f"estimator.penalties={list(self.penalties)}: must be numbers above 0")

    def fit(self, source: Pool, target: Pool, context: Context) -> Estimate:
        """Gradients of all units, once; then the penalty."""
        from dsel.functional.subset_regression import Rows

        own, numbers, theirs = self.look(source, target, context)
        started = time.monotonic()
        rows = Rows(own.values, own.outputs, numbers, int(numbers[-1]) + 1)
        penalty = self.penalty or self._choose(rows)
        work = own.work + theirs.work + Work(time.monotonic() - started)
        if self.evaluate_by == "linear":
            return LinearEstimate(rows, theirs, penalty, work, self.problem)
        from dsel.functional.gradients import unfreeze

        assert context.model is not None
        moved = Moved(unfreeze(context.load(None)), context.objective, target, context.model.context, self.projection, self.scale)
        return ForwardEstimate(rows, moved, penalty, work, self.problem)

    def _choose(self, rows: Rows) -> float:
        from dsel.functional.subset_regression import choose_penalty
        from dsel.functional.subset_search import random_subsets

        probes = random_subsets(rows.num_tasks, max(1, rows.num_tasks // 2), PROBES, self.seed)
        return choose_penalty(rows, probes, self.penalties, HELD_OUT, self.seed, partial(fit_weights, self.problem))[0]


def fit_weights(problem: str, rows: Rows, subsets: Subsets, penalty: float) -> npt.NDArray[np.float64]:
    """Weights (subset, dim) of the first-order model."""
    from dsel.functional.subset_regression import fit_logistic, fit_squared

    if problem == "logistic":
        return fit_logistic(rows, subsets, penalty)
    return fit_squared(rows, np.full(len(rows.outputs), HIGHEST), subsets, penalty)


@dataclass(frozen=True)
class LinearEstimate:
    """No forward pass: the linear model says what becomes of the target's units."""

    rows: Rows
    target: Features
    penalty: float
    work: Work
    problem: str = "logistic"

    def __call__(self, subsets: Subsets) -> npt.NDArray[np.float64]:
        """(subset, unit of the target)."""
        from dsel.functional.subset_regression import estimate_losses

        weights = fit_weights(self.problem, self.rows, subsets, self.penalty)
        return np.asarray(estimate_losses(weights, self.target.values, self.target.outputs))

    def flops(self, num_subsets: int) -> float:
        """About ten steps of Newton's method with shared Gram blocks, and one product with the target's units."""
        num_rows, dim = len(self.rows.task), int(self.rows.features.shape[1])
        shared = 2.0 * num_rows * dim**2
        each = 2.0 * self.rows.num_tasks * dim**2 + dim**3 / 3 + 10 * 4.0 * num_rows * dim + 2.0 * len(self.target.outputs) * dim
        return shared + num_subsets * each


@dataclass(frozen=True)
class Moved:
    """A model whose parameters are moved from where they are, to measure the target's units there."""

    model: torch.nn.Module
    objective: Objective
    target: Pool
    context: int
    projection: Projection
    scale: float | None

    def losses(self, weights: torch.Tensor) -> npt.NDArray[np.float64]:
        """Of the target's units (unit,) at theta + P w, or at that share of theta's norm; the parameters are as before afterwards."""
        from dsel.functional.alignment import trainable
        from dsel.functional.example_gradients import lift
        from dsel.functional.gradients import moved, norm
        from dsel.functional.unit_outputs import logistic_losses, unit_outputs

        parameters, steps = trainable(self.model), lift(self.model, self.projection, weights)
        factor = 1.0 if self.scale is None else self.scale * norm(parameters.values()) / max(norm(steps.values()), 1e-30)
        with moved(parameters, steps, factor):
            return logistic_losses(unit_outputs(self.model, self.objective, self.target.table, self.context))


@dataclass(frozen=True)
class ForwardEstimate:
    """A forward pass over the target for each subset, as the authors' released code does."""

    rows: Rows
    moved: Moved
    penalty: float
    work: Work
    problem: str = "logistic"

    def __call__(self, subsets: Subsets) -> npt.NDArray[np.float64]:
        """(subset, unit of the target)."""
        import torch

        weights = fit_weights(self.problem, self.rows, subsets, self.penalty)
        return np.stack([self.moved.losses(torch.from_numpy(each)) for each in weights])

    def flops(self, num_subsets: int) -> float:
        """A forward pass over the target each."""
        return FORWARD * num_parameters(self.moved.model) * count_tokens(self.moved.target, self.moved.objective) * num_subsets
