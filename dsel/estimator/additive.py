"""Any scores as an estimate: what a subset is worth is the mean of what its tasks are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dsel.context import Context
from dsel.error import InputError
from dsel.pool import Pool
from dsel.protocol import Estimate
from dsel.subset import AdditiveEstimate


@dataclass(frozen=True)
class Additive:
    """A task's affinity is the mean score of its units, over all columns of the scores: so any scorer is judged as estimators are."""

    def fit(self, source: Pool, target: Pool, context: Context) -> Estimate:
        """Errors: there are no scores, or scores of another pool."""
        if context.scores is None:
            raise InputError("estimator additive: there are no scores; put a score phase before this one in pipeline")
        values = context.scores.check(source).values.mean(axis=1, dtype=np.float64)
        names, numbers = source.tasks()
        sums = np.bincount(numbers, values, minlength=len(names))
        return AdditiveEstimate(sums / np.bincount(numbers, minlength=len(names)))
