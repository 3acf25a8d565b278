"""Similarity of gradients: tasks whose mean gradient points along the target's (LESS, arXiv 2402.04333, takes Adam's)."""

from __future__ import annotations

from dataclasses import dataclass

from dsel.context import Context
from dsel.features import ByGradients
from dsel.pool import Pool
from dsel.protocol import Estimate
from dsel.subset import AdditiveEstimate


@dataclass(frozen=True)
class GradientCosine(ByGradients):
    """A task's affinity is the cosine of its mean gradient with the target's; gradients as `GradEx` takes them, and shared with it."""

    def fit(self, source: Pool, target: Pool, context: Context) -> Estimate:
        """Gradients of all units, once."""
        from dsel.functional.task_cosine import task_cosines

        own, numbers, theirs = self.look(source, target, context)
        return AdditiveEstimate(task_cosines(own.values, numbers, theirs.values), own.work + theirs.work)
