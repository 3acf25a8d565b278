"""Correlations against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dsel.error import InputError
from dsel.functional.correlation import lds, pearson, relative_error, spearman

PAIRS = st.lists(st.tuples(st.integers(-4, 4), st.floats(-1e3, 1e3)), min_size=3, max_size=30)


@given(PAIRS)
def test_equals_scipy(pairs: list[tuple[int, float]]) -> None:
    a, b = np.array(pairs, np.float64).T
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert math.isnan(spearman(a, b))
        assert math.isnan(pearson(a, b))
        return
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
    if np.ptp(b) > 1e-6 * np.abs(b).max():  # of what is nearly constant scipy warns
        assert pearson(a, b) == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-9)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=10))
def test_values_of_any_size(values: list[float]) -> None:
    found = pearson(np.array(values), np.arange(len(values)))
    assert math.isnan(found) == (len(set(values)) == 1)
    assert math.isnan(found) or -1 <= found <= 1


def test_constants_are_nan_even_where_their_mean_is_rounded() -> None:
    constant, values = np.full(3, 0.1), np.arange(3.0)
    for method in (pearson, spearman):
        assert math.isnan(method(constant, values))
        assert math.isnan(method(values, constant))
        assert math.isnan(method(np.ones(1), np.ones(1)))


def test_relative_error_by_hand() -> None:
    assert relative_error(np.array([1.1, -3.0]), np.array([1.0, -2.0])) == pytest.approx((0.1 + 0.5) / 2)
    with pytest.raises(InputError, match="place 1: the truth is 0"):
        relative_error(np.ones(2), np.array([1.0, 0.0]))


def test_lds_equals_scipy_row_by_row_and_counts_what_it_leaves_out() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(12, 6))
    estimate = truth + rng.normal(size=truth.shape)
    estimate[:, 2], truth[:, 4] = 0.5, 1.0
    expected = [stats.spearmanr(estimate[:, row], truth[:, row]).statistic for row in (0, 1, 3, 5)]
    assert lds(estimate, truth) == (pytest.approx(np.mean(expected), abs=1e-12), 2)
    score, num_left_out = lds(np.ones((4, 3)), truth[:4, :3])
    assert (math.isnan(score), num_left_out) == (True, 3)


def test_bad_values_are_named() -> None:
    with pytest.raises(InputError, match=r"place 1: a value of nan"):
        spearman(np.array([0.0, np.nan]), np.ones(2))
    with pytest.raises(InputError, match=r"shapes \(2,\) and \(3,\)"):
        pearson(np.ones(2), np.ones(3))
    with pytest.raises(InputError, match=r"estimates \(2, 3\) and truths \(3, 2\)"):
        lds(np.ones((2, 3)), np.ones((3, 2)))
