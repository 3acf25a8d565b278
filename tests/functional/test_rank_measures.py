from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from dsel.error import InputError
from dsel.functional.rank_measures import ndcg, regret

TIED = st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(0, 2)), min_size=2, max_size=6)


def orders(predicted: np.ndarray) -> list[tuple[int, ...]]:
    """All orders of the sources in which predictions fall."""
    return [order for order in permutations(range(len(predicted))) if all(np.diff(predicted[list(order)]) <= 0)]


def test_regret_by_hand() -> None:
    performance, predicted = np.array([0.5, 0.8, 0.6, 0.7]), np.array([4.0, 1.0, 2.0, 3.0])
    assert regret(performance, predicted, 1) == pytest.approx(100 * 0.3 / 0.8)
    assert regret(performance, predicted, 2) == pytest.approx(100 * 0.1 / 0.8)
    assert regret(performance, predicted, 4) == 0.0
    assert regret(performance, predicted, 4, none=1.0) == pytest.approx(20)
    assert regret(performance, predicted, 2, none=0.1) == regret(performance, predicted, 2)


@given(TIED, st.integers(1, 6), st.one_of(st.none(), st.floats(0.1, 1.5)))
def test_regret_is_the_mean_over_orders_of_ties(pairs: list[tuple[float, int]], k: int, none: float | None) -> None:
    performance, predicted = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs], float)
    performance[0], k = max(performance[0], 0.1), min(k, len(pairs))
    best = max(performance.max(), none or 0)
    expected = np.mean([100 * (best - performance[list(order[:k])].max()) / best for order in orders(predicted)])
    assert regret(performance, predicted, k, none) == pytest.approx(expected, abs=1e-9)


@given(TIED)
def test_ndcg_equals_scikit_learn_on_small_gains(pairs: list[tuple[float, int]]) -> None:
    performance, predicted = np.array([pair[0] for pair in pairs]) / 10, np.array([pair[1] for pair in pairs], float)
    performance[0] = max(performance[0], 0.01)
    gains = 2 ** (100 * performance) - 1
    assert ndcg(performance, predicted) == pytest.approx(ndcg_score([gains], [predicted]), abs=1e-9)
    discounts = 1 / np.log2(np.arange(len(gains)) + 2)
    mean = np.mean([gains[list(order)] @ discounts for order in orders(predicted)])
    assert ndcg(performance, predicted) == pytest.approx(mean / (np.sort(gains)[::-1] @ discounts), abs=1e-9)


def test_ndcg_of_gains_that_no_float_holds() -> None:
    performance, predicted = np.array([85.0, 85.001, 30.0]), np.array([2.0, 1.0, 0.0])
    gains = 2 ** np.array([0.0, 0.1])  # over 2^8500; the third is nothing beside them
    expected = (gains[0] + gains[1] / np.log2(3)) / (gains[1] + gains[0] / np.log2(3))
    assert ndcg(performance, predicted) == pytest.approx(expected)
    assert ndcg(performance, performance) == pytest.approx(1.0)


def test_ndcg_of_gains_that_are_next_to_nothing() -> None:
    performance, predicted = np.array([1e-17, 2e-17]), np.array([1.0, 0.0])  # 1 + these is 1
    assert ndcg(performance, predicted) == pytest.approx((1 + 2 / np.log2(3)) / (2 + 1 / np.log2(3)))


def test_bad_values_are_named() -> None:
    values = np.array([0.5, 0.6])
    for measure in (lambda a, b: regret(a, b, 1), ndcg):
        with pytest.raises(InputError, match="source 1: its performance is nan"):
            measure(np.array([0.5, np.nan]), values)
        with pytest.raises(InputError, match="source 0: its prediction is inf"):
            measure(values, np.array([np.inf, 0.0]))
        with pytest.raises(InputError, match=r"performance \(2,\) and predicted \(1,\)"):
            measure(values, values[:1])
        with pytest.raises(InputError, match=r"the best is 0\.0"):
            measure(np.array([-0.5, 0.0]), values)
    for k in (0, 3):
        with pytest.raises(InputError, match=rf"k={k}: there are 2 sources"):
            regret(values, values, k)
    with pytest.raises(InputError, match="none=nan"):
        regret(values, values, 1, none=float("nan"))
