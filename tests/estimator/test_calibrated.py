"""A line through real trainings."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import pytest
from task_lab import TaskLab

from dsel.context import Context
from dsel.error import InputError
from dsel.estimator.additive import Additive
from dsel.estimator.calibrated import Calibrated
from dsel.estimator.retrain import Retrain
from dsel.functional.masks import Subsets
from dsel.pool import Pool
from dsel.protocol import Estimate
from dsel.subset import Work


@dataclass(frozen=True)
class Bent:
    """What retraining gives, on another scale."""

    factor: float

    def fit(self, source: Pool, target: Pool, context: Context) -> Estimate:
        return BentEstimate(Retrain().fit(source, target, context), self.factor)


@dataclass(frozen=True)
class BentEstimate:
    inner: Estimate
    factor: float

    @property
    def work(self) -> Work:
        return Work()

    def __call__(self, subsets: Subsets) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        return 5 + self.factor * self.inner(subsets)

    def flops(self, num_subsets: int) -> float:
        return 0.0


SUBSETS = np.array([[1, 1, 0, 0, 0, 1], [0, 0, 1, 1, 0, 0], [0, 1, 0, 0, 1, 0]], bool)


def test_it_finds_the_scale(tasks: TaskLab) -> None:
    truth = Retrain().fit(tasks.source, tasks.target, tasks.context())(SUBSETS)
    estimate = Calibrated(Bent(0.01), num_subsets=3).fit(tasks.source, tasks.target, tasks.context())
    np.testing.assert_allclose(estimate(SUBSETS), truth, rtol=1e-6)
    assert estimate.work.seconds > 0  # of the trainings


def test_a_falling_line_is_told(tasks: TaskLab, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dsel"):
        Calibrated(Bent(-1.0), num_subsets=3).fit(tasks.source, tasks.target, tasks.context())
    assert "does not rise with the loss" in caplog.text


def test_mistakes_name_their_key() -> None:
    with pytest.raises(InputError, match=r"estimator\.num_subsets=1"):
        Calibrated(Additive(), num_subsets=1)
    with pytest.raises(InputError, match=r"estimator\.share=1"):
        Calibrated(Additive(), share=1)
