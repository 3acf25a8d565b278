"""Scores as estimates of subsets."""

from __future__ import annotations

import numpy as np
import pytest
from task_lab import TaskLab

from dsel.error import InputError
from dsel.estimator.additive import Additive
from dsel.scores import Scores


def test_a_subset_is_worth_the_mean_of_its_tasks(tasks: TaskLab) -> None:
    _, numbers = tasks.source.tasks()
    worth = np.array([3.0, -1.0, 0.5, 2.0, 8.0, 0.0])
    values = (worth[numbers][:, None] + np.array([[-1.0, 1.0]])).astype(np.float32)
    context = tasks.context(scores=Scores(values, tasks.source.fingerprint))
    estimate = Additive().fit(tasks.source, tasks.target, context)
    subsets = np.array([[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 1, 0]], bool)
    np.testing.assert_allclose(estimate(subsets), [[-3.0], [-10 / 3]], rtol=1e-6)


def test_it_needs_scores(tasks: TaskLab) -> None:
    with pytest.raises(InputError, match="there are no scores"):
        Additive().fit(tasks.source, tasks.target, tasks.context())
