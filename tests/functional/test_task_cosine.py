from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from dsel.error import InputError
from dsel.functional.task_cosine import task_cosines

RNG = np.random.default_rng(0)
SOURCE, TARGET = RNG.normal(size=(30, 8)).astype(np.float32), RNG.normal(size=(5, 8)).astype(np.float32)
TASK = RNG.permutation(np.arange(30) % 4)


def test_equals_scikit_learn() -> None:
    means = np.stack([SOURCE[task == TASK].mean(0) for task in range(4)])
    np.testing.assert_allclose(task_cosines(SOURCE, TASK, TARGET), cosine_similarity(means, TARGET.mean(0, keepdims=True))[:, 0], atol=1e-6)


def test_rows_move_with_their_tasks_and_lengths_do_not_matter() -> None:
    order = RNG.permutation(30)
    expected = task_cosines(SOURCE, TASK, TARGET)
    np.testing.assert_allclose(task_cosines(SOURCE[order] * 7, TASK[order], TARGET / 9), expected, atol=1e-6)
    np.testing.assert_allclose(task_cosines(SOURCE, 3 - TASK, -TARGET), -expected[::-1], atol=1e-6)


def test_of_itself_it_is_one() -> None:
    assert task_cosines(TARGET, np.zeros(5, np.int64), TARGET) == pytest.approx([1.0], abs=1e-12)


@pytest.mark.parametrize(
    ("source", "task", "target", "message"),
    [
        (np.array([[1, 0], [0, 1], [0, -1]]), [0, 1, 1], np.ones((1, 2)), "task 1: the mean of its vectors is zero"),
        (np.ones((2, 2)), [0, 1], np.array([[1, 1], [-1, -1]]), "target: the mean of its vectors is zero"),
        (np.ones((2, 2)), [0, 2], np.ones((1, 2)), "task 1: has no rows"),
        (np.ones((2, 2)), [0, 1], np.ones((1, 3)), r"target \(1, 3\)"),
        (np.array([[1, 1], [np.nan, 1]]), [0, 1], np.ones((1, 2)), "source row 1: its vector is not finite"),
    ],
)
def test_what_has_no_cosine(source: np.ndarray, task: list[int], target: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        task_cosines(source.astype(np.float32), np.array(task), target.astype(np.float32))
