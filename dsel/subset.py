"""What is said of subsets of tasks, and what it took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsel.functional.masks import Subsets, check_subsets
from dsel.pool import Pool
from dsel.progress import progress


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


def fine_tune_each(
    fine_tune: Callable[..., FineTuned], source: Pool, subsets: Subsets, target: Pool, label: str, repeat: int = 0
) -> list[FineTuned]:
    """One training for each subset of the source's tasks, as `Context.fine_tune` does it. Errors: as `check_subsets`."""
    names, numbers = source.tasks()
    found = []
    with progress(label, len(subsets), "trainings") as bar:
        for mask in check_subsets(subsets, len(names)):
            found.append(fine_tune(source.take(np.flatnonzero(mask[numbers]), "subset"), target, repeat))
            bar.advance(1)
    return found


def total_work(tuned: Sequence[FineTuned]) -> Work:
    """Of all of them."""
    return sum((each.work for each in tuned), Work())


@dataclass(frozen=True)
class AdditiveEstimate:
    """Of affinities (task,) to the target: a subset's loss is minus their mean. It orders subsets; how large losses are it does not say."""

    affinities: npt.NDArray[np.float64]
    work: Work = Work()

    def __call__(self, subsets: Subsets) -> npt.NDArray[np.float64]:
        """(subset, 1)."""
        masks = check_subsets(subsets, len(self.affinities)).astype(np.float64)
        losses: npt.NDArray[np.float64] = -(masks @ self.affinities / masks.sum(1))[:, None]
        return losses

    def flops(self, num_subsets: int) -> float:
        """A multiplication and an addition a task."""
        return 2.0 * len(self.affinities) * num_subsets
