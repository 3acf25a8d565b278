"""Regressions on the rows of many subsets of tasks at once: what training on each would make of a model, to first order.

The first-order model of arXiv 2409.19458: a row's output f (the log odds of its answer) becomes f + w.g, for features g (its gradient,
projected) and weights w that are fitted on a subset's rows. All is float64 inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from dsel.error import InputError
from dsel.functional import logistic_regression
from dsel.functional.logistic_regression import chunks, span, to_tensor
from dsel.functional.masks import Subsets, check_subsets

Floats = npt.NDArray[np.float64]
Fit: TypeAlias = "Callable[[Rows, Subsets, float], Floats]"  # weights (subset, dim), as `fit_logistic` gives them


@dataclass(frozen=True)
class Rows:
    """Features (row, dim) and outputs (row,) of rows, and the number of each row's task (row,), 0 to `num_tasks` - 1.

    Errors: values that are not finite, shapes that do not fit, a task without rows.
    """

    features: npt.NDArray[np.float32]
    outputs: Floats
    task: npt.NDArray[np.int64]
    num_tasks: int

    def __post_init__(self) -> None:
        num_rows = len(self.features)
        if np.ndim(self.features) != 2 or np.shape(self.outputs) != (num_rows,) or np.shape(self.task) != (num_rows,):
            shapes = ", ".join(f"{name} {np.shape(getattr(self, name))}" for name in ("features", "outputs", "task"))
            raise InputError(f"rows: {shapes}; expected (row, dim), (row,) and (row,)")
        task = np.asarray(self.task)
        outside = np.flatnonzero((task < 0) | (task >= self.num_tasks))
        if len(outside):
            raise InputError(f"row {outside[0]}: task {task[outside[0]]}, there are {self.num_tasks} tasks; number them from 0")
        for name, values in (("feature", np.asarray(self.features)), ("output", np.asarray(self.outputs)[:, None])):
            bad = np.flatnonzero(~np.isfinite(values).all(1))
            if len(bad):
                value = values[bad[0]][~np.isfinite(values[bad[0]])][0]
                raise InputError(f"row {bad[0]} (task {task[bad[0]]}): its {name} is {value}; give finite numbers or leave the row out")
        empty = np.flatnonzero(np.bincount(task, minlength=self.num_tasks) == 0)
        if len(empty):
            raise InputError(f"task {empty[0]}: has no rows ({len(empty)} tasks in all); leave it out")

    def take(self, chosen: Subsets) -> Rows:
        """The rows that are chosen (row,)."""
        return Rows(self.features[chosen], self.outputs[chosen], self.task[chosen], self.num_tasks)

    def shares(self, subsets: Subsets) -> Floats:
        """What each row of a task weighs in each subset's mean (subset, task). Errors: a subset without tasks, a mask of another width."""
        subsets = check_subsets(subsets, self.num_tasks)
        num_rows = np.bincount(self.task, minlength=self.num_tasks)
        shares: Floats = subsets / (subsets @ num_rows)[:, None]
        return shares


def fit_logistic(rows: Rows, subsets: Subsets, penalty: float) -> Floats:
    """Weights (subset, dim) with the least mean of log(1 + exp(-(f + w.g))) over the rows of a subset's tasks, plus penalty * |w|^2.

    Subsets are masks (subset, task). Errors: those of `Rows.shares`, a penalty that is not above 0, no convergence.
    """
    _check(penalty)
    return logistic_regression.minimise(rows.features, rows.outputs, rows.shares(subsets), rows.task, penalty)


def fit_squared(rows: Rows, labels: Floats, subsets: Subsets, penalty: float) -> Floats:
    """Weights (subset, dim) with the least mean of (f + w.g - label)^2 over a subset's rows, plus penalty * |w|^2; labels (row,).

    In closed form. Errors: as `fit_logistic`, labels that are not finite.
    """
    if np.shape(labels) != (len(rows.outputs),) or not np.isfinite(labels).all():
        raise InputError(f"labels: {np.shape(labels)} for {len(rows.outputs)} rows; give one finite label per row")
    _check(penalty)
    shares, (features, basis) = to_tensor(rows.shares(subsets)), span(to_tensor(rows.features))
    dim, weights = features.shape[1], torch.zeros(len(subsets), np.shape(rows.features)[1], dtype=torch.float64)
    members = [torch.from_numpy(np.flatnonzero(rows.task == task)) for task in range(rows.num_tasks)]
    sums = torch.stack([features[some].T @ to_tensor(labels - rows.outputs)[some] for some in members])
    for chunk in chunks(len(subsets), 3 * dim**2):
        hessians = penalty * torch.eye(dim, dtype=torch.float64).repeat(len(shares[chunk]), 1, 1)
        for block in chunks(rows.num_tasks, dim**2):
            grams = torch.stack([features[some].T @ features[some] for some in members[block]])
            hessians += (shares[chunk, block] @ grams.flatten(1)).view_as(hessians)
        lower, failed = torch.linalg.cholesky_ex(hessians)
        if failed.any():
            raise InputError(f"subset {chunk.start + int(failed.argmax())}: penalty={penalty} is lost in rounding; raise it")
        halfway = torch.linalg.solve_triangular(lower, (shares[chunk] @ sums)[:, :, None], upper=False)
        found = torch.linalg.solve_triangular(lower.mT, halfway, upper=True)[:, :, 0]
        weights[chunk] = found if basis is None else found @ basis.T
    return weights.numpy()


def estimate_losses(weights: Floats, features: npt.NDArray[np.float32], outputs: Floats) -> Floats:
    """log(1 + exp(-(f + w.g))) (subset, row) of weights (subset, dim), features (row, dim) and outputs (row,)."""
    return logistic_regression.evaluate(weights, features, outputs)


def choose_penalty(
    rows: Rows, subsets: Subsets, path: Sequence[float], held_out_share: float = 0.2, seed: int = 0, fit: Fit | None = None
) -> tuple[float, Floats]:
    """The penalty of `path` with the least logistic loss of rows that were not fitted, and that loss for each (penalty,).

    Of each task, this share of the rows (one at least, but never all) is held out; the loss is the mean over the held-out rows of a
    subset's tasks, then over subsets. `fit` (None: `fit_logistic`) makes the weights. Ties go to the larger penalty. Errors: an empty
    path, a subset of whose rows none can be held out.
    """
    if not len(path) or not all(penalty > 0 for penalty in path):
        raise InputError(f"penalties={list(path)}: give one or more numbers above 0")
    if not 0 < held_out_share < 1:
        raise InputError(f"held_out_share={held_out_share}: must be above 0 and below 1")
    held = _held_out(rows.task, held_out_share, seed)
    fitted, task = rows.take(~held), rows.task[held]
    rows.shares(subsets)  # for its errors, before anything is fitted
    num_held = subsets[:, task].sum(1)
    if not num_held.all():
        raise InputError(f"subset {np.argmin(num_held)}: its tasks have one row each, so none can be held out; give a single penalty")
    shares, losses = subsets[:, task] / num_held[:, None], []
    for penalty in path:
        estimates = estimate_losses((fit or fit_logistic)(fitted, subsets, penalty), rows.features[held], rows.outputs[held])
        losses.append(float((shares * estimates).sum(1).mean()))
    best = max(penalty for penalty, loss in zip(path, losses, strict=True) if loss == min(losses))
    return best, np.array(losses)


def _held_out(task: npt.NDArray[np.int64], share: float, seed: int) -> Subsets:
    """Which rows are held out (row,); those of a task whatever the other tasks are."""
    held = np.zeros(len(task), dtype=bool)
    for number in np.unique(task):
        members = np.flatnonzero(task == number)
        count = min(max(1, round(share * len(members))), len(members) - 1)
        held[np.random.default_rng([seed, number]).permutation(members)[:count]] = True
    return held


def _check(penalty: float) -> None:
    if not 0 < penalty < np.inf:
        raise InputError(f"penalty={penalty}: must be above 0")
