"""What is said of subsets of tasks, and what it took."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsel.error import InputError


@dataclass(frozen=True)
class Work:
    """Time and operations."""

    seconds: float = 0.0
    flops: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.seconds + other.seconds, self.flops + other.flops)


@dataclass(frozen=True)
class FineTuned:
    """What one fine-tuning led to: the loss of each unit (unit,) that was measured."""

    losses: npt.NDArray[np.float64]
    work: Work


def check_subsets(subsets: npt.NDArray[np.bool_], num_tasks: int) -> npt.NDArray[np.bool_]:
    """The masks (subset, task). Errors: of another width, or a subset without a task."""
    if subsets.ndim != 2 or subsets.shape[1] != num_tasks:
        raise InputError(f"subsets: a mask has {subsets.shape[-1]} columns, and there are {num_tasks} tasks; give one for each task")
    empty = np.flatnonzero(~subsets.any(axis=1))
    if len(empty):
        raise InputError(f"subsets: number {empty[0]} holds no task ({len(empty)} such subsets); leave it out")
    return subsets.astype(bool)


@dataclass(frozen=True)
class AdditiveEstimate:
    """Of affinities (task,) to the target: a subset's loss is minus their mean. It orders subsets; how large losses are it does not say."""

    affinities: npt.NDArray[np.float64]
    work: Work = Work()

    def __call__(self, subsets: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """(subset, 1)."""
        masks = check_subsets(subsets, len(self.affinities)).astype(np.float64)
        losses: npt.NDArray[np.float64] = -(masks @ self.affinities / masks.sum(1))[:, None]
        return losses

    def flops(self, num_subsets: int) -> float:
        """A multiplication and an addition a task."""
        return 2.0 * len(self.affinities) * num_subsets
