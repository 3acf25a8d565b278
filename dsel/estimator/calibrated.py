"""Another estimate, with its level set right by a few real trainings."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsel.context import Context
from dsel.error import InputError
from dsel.functional.masks import Subsets
from dsel.pool import Pool
from dsel.protocol import Estimate, SubsetEstimator
from dsel.subset import Work, fine_tune_each, total_work

log = logging.getLogger("dsel")


@dataclass(frozen=True)
class Calibrated:
    """Fine-tunes on `num_subsets` random subsets of a share `share` of the tasks, and puts a line through their mean losses as a function
    of what `estimator` says of them; all estimates are read off that line. The order of subsets is the estimator's own, unless the line
    falls: then it turns.
    """

    estimator: SubsetEstimator
    num_subsets: int = 8
    share: float = 0.35
    seed: int = 1

    def __post_init__(self) -> None:
        if self.num_subsets < 2:
            raise InputError(f"estimator.num_subsets={self.num_subsets}: a line needs at least 2")
        if not 0 < self.share < 1:
            raise InputError(f"estimator.share={self.share}: must be above 0 and below 1")

    def fit(self, source: Pool, target: Pool, context: Context) -> Estimate:
        """The estimator's fit, and the trainings."""
        from dsel.functional.subset_search import random_subsets

        inner = self.estimator.fit(source, target, context)
        names, _ = source.tasks()
        subsets = random_subsets(len(names), max(1, round(self.share * len(names))), self.num_subsets, self.seed + 1000 * context.seed)
        tuned = fine_tune_each(context.fine_tune, source, subsets, target, "calibrate")
        said, true = inner(subsets).mean(1), np.array([each.losses.mean() for each in tuned])
        slope = float(np.cov(said, true)[0, 1] / np.var(said, ddof=1)) if np.ptp(said) > 0 else 0.0
        if slope <= 0:
            log.warning(
                "estimator calibrated: over %d real trainings the estimate does not rise with the loss (slope %.3g)", len(tuned), slope
            )
        return CalibratedEstimate(inner, slope, float(true.mean() - slope * said.mean()), total_work(tuned))


@dataclass(frozen=True)
class CalibratedEstimate:
    """`level` + `slope` times another estimate."""

    inner: Estimate
    slope: float
    level: float
    trained: Work

    @property
    def work(self) -> Work:
        """The estimate's, and the trainings'."""
        return self.inner.work + self.trained

    def __call__(self, subsets: Subsets) -> npt.NDArray[np.float64]:
        """(subset, column), as the estimate has them."""
        return self.level + self.slope * self.inner(subsets)

    def flops(self, num_subsets: int) -> float:
        """As the estimate's."""
        return self.inner.flops(num_subsets)
