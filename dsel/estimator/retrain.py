"""No estimate at all: fine-tune on every subset that is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dsel.context import Context
from dsel.functional.masks import Subsets
from dsel.pool import Pool
from dsel.protocol import Estimate
from dsel.subset import Work, fine_tune_each


@dataclass(frozen=True)
class Retrain:
    """Fine-tunes a copy of the newest model on each subset, as the phase's `tune` says: what the others estimate, at its full price."""

    def fit(self, source: Pool, target: Pool, context: Context) -> Estimate:
        """Nothing, before a subset is asked for."""
        return RetrainEstimate(source, target, context)


@dataclass(frozen=True)
class RetrainEstimate:
    """Trainings are artifacts: a subset that was asked for before costs nothing."""

    source: Pool
    target: Pool
    context: Context
    spent: list[Work] = field(default_factory=list)  # on each subset so far

    @property
    def work(self) -> Work:
        """Of all trainings so far."""
        return sum(self.spent, Work())

    def __call__(self, subsets: Subsets) -> npt.NDArray[np.float64]:
        """(subset, unit of the target)."""
        tuned = fine_tune_each(self.context.fine_tune, self.source, subsets, self.target, "subsets")
        self.spent.extend(each.work for each in tuned)
        return np.stack([each.losses for each in tuned])

    def flops(self, num_subsets: int) -> float:
        """So many times the mean of those that were trained; 0 before the first."""
        return self.work.flops / max(len(self.spent), 1) * num_subsets
