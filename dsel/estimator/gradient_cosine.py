"""Similarity of gradients: tasks whose mean gradient points along the target's (LESS, arXiv 2402.04333, takes Adam's)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dsel.context import Context
from dsel.error import InputError
from dsel.pool import Pool
from dsel.protocol import Estimate
from dsel.subset import AdditiveEstimate

if TYPE_CHECKING:
    from dsel.functional.projection import Projection

KINDS = ("sparse", "rademacher", "gaussian")


@dataclass(frozen=True)
class GradientCosine:
    """A task's affinity is the cosine of its mean gradient with the target's; gradients as `GradEx` takes them, and shared with it."""

    dim: int = 256
    kind: str = "sparse"
    num_nonzeros: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"estimator.kind={self.kind!r}: must be one of {', '.join(KINDS)}")
        if self.dim < 1:
            raise InputError(f"estimator.dim={self.dim}: must be at least 1")

    @property
    def projection(self) -> Projection:
        """The map of gradients to `dim` dimensions."""
        from dsel.functional.projection import Projection

        return Projection(self.kind, self.dim, self.seed, self.num_nonzeros)

    def fit(self, source: Pool, target: Pool, context: Context) -> Estimate:
        """Gradients of all units, once."""
        from dsel.functional.task_cosine import task_cosines

        tasks = list(source.by_task().values())
        own, theirs = context.features(tasks, self.projection), context.features([target], self.projection)
        numbers = np.repeat(np.arange(len(tasks)), [len(task) for task in tasks])
        return AdditiveEstimate(task_cosines(own.values, numbers, theirs.values), own.work + theirs.work)
