"""Orders and what an order finds, against brute force and scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from dsel.functional.ranking import (
    SPACING,
    SampleRank,
    keyed_gumbel,
    keyed_uniform,
    middle_out,
    order_by,
    precision_recall,
    roc_auc,
    roc_auc_of_parts,
)

few_values = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=40)


def ids_of(count: int) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    return np.array([f"unit {number}" for number in range(count)], dtype=object)


@given(few_values)
def test_auc_equals_scikit_learn_with_ties(rows: list[tuple[int, bool]]) -> None:
    values, positive = np.array([float(v) for v, _ in rows]), np.array([p for _, p in rows])
    if positive.all() or not positive.any():
        assert math.isnan(roc_auc(values, positive))
    else:
        assert roc_auc(values, positive) == pytest.approx(roc_auc_score(positive, values), abs=1e-12)


def in_parts(values: np.ndarray, positive: np.ndarray, size: int) -> Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]:
    return lambda: ((values[at : at + size], positive[at : at + size]) for at in range(0, len(values), size))


@given(few_values, st.integers(1, 7))
def test_auc_of_parts_is_that_of_the_whole(rows: list[tuple[int, bool]], size: int) -> None:
    values, positive = np.array([v for v, _ in rows], np.float32), np.array([p for _, p in rows])
    auc, error = roc_auc_of_parts(in_parts(values, positive, size))
    assert error == 0
    assert auc == pytest.approx(roc_auc(values, positive), abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("spread", [1e-6, 1.0, 1e6])
def test_auc_in_bins_keeps_its_bound(spread: float) -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(20_000) < 0.3
    values = (rng.normal(size=20_000) * spread + positive * spread + 5).astype(np.float32)
    values[:100] = np.where(rng.random(100) < 0.5, 0.0, -0.0)
    auc, error = roc_auc_of_parts(in_parts(values, positive, 999), most_held=10)
    exact = roc_auc_score(positive, values)
    assert error > 0
    assert abs(auc - exact) <= error
    assert error < 1e-3 or spread < 1e-3  # values that a thousandth part sets apart


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_the_order_belongs_to_the_units(values: list[int], random: object) -> None:
    ids, array = ids_of(len(values)), np.array(values, dtype=np.float32)
    order = order_by(array, ids)
    assert sorted(order.tolist()) == list(range(len(values)))
    assert (np.diff(array[order]) <= 0).all()
    shuffled = np.array(random.sample(range(len(values)), len(values)))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(ids[shuffled][order_by(array[shuffled], ids[shuffled])], ids[order])


@given(st.integers(1, 30))
def test_middle_out_goes_from_the_middle_outwards(count: int) -> None:
    order = np.random.default_rng(count).permutation(count)
    found = middle_out(order)
    assert sorted(found.tolist()) == list(range(count))
    place = {int(unit): number for number, unit in enumerate(order)}
    distance = [abs(place[int(unit)] - (count - 1) / 2) for unit in found]
    assert distance == sorted(distance)


@given(st.lists(st.integers(0, 19), max_size=30), st.lists(st.booleans(), min_size=20, max_size=20))
def test_precision_and_recall_against_sets(selected: list[int], marks: list[bool]) -> None:
    positive = {number for number, mark in enumerate(marks) if mark}
    hits = len(set(selected) & positive)
    found = precision_recall(np.array(selected, dtype=np.int64), np.array(marks))
    assert found == (hits / max(1, len(set(selected))), hits / max(1, len(positive)))


def test_keyed_noise_has_the_right_distribution() -> None:
    ids = ids_of(20_000)
    uniform, gumbel = keyed_uniform(ids, 1), keyed_gumbel(ids, 1)
    assert ((uniform > 0) & (uniform < 1)).all()
    assert abs(uniform.mean() - 0.5) < 0.01
    assert abs(gumbel.mean() - np.euler_gamma) < 0.04
    assert abs(gumbel.var() - np.pi**2 / 6) < 0.08
    np.testing.assert_array_equal(keyed_uniform(ids[::-1], 1), uniform[::-1])
    assert abs(np.corrcoef(uniform, keyed_uniform(ids, 2))[0, 1]) < 0.03


@given(st.lists(st.integers(-50, 50) | st.just(3), min_size=1, max_size=300))
def test_a_sample_rank_is_the_share_above_with_ties_half(sample: list[int]) -> None:
    array = np.array(sample, dtype=np.float32)
    shares = SampleRank.of(array).share_above(array)
    few = max(1, len(sample) / 100)
    for value, share in zip(sample, shares.tolist(), strict=True):
        exact = (sum(other > value for other in sample) + sum(other == value for other in sample) / 2) / len(sample)
        is_knot = sample.count(value) > few or value in (min(sample), max(sample))
        assert abs(share - exact) <= (0 if is_knot else SPACING * few / len(sample)) + 1e-12


@given(st.lists(st.integers(-100, 100), min_size=1, max_size=50), st.lists(st.integers(-10_000, 10_000), max_size=50))
def test_a_sample_rank_keeps_the_order_within_the_sample_and_beyond(sample: list[int], numbers: list[int]) -> None:
    ordered = np.unique(np.array([*sample, *numbers], dtype=np.float32))
    shares = SampleRank.of(np.array(sample, dtype=np.float32)).share_above(ordered)
    assert (np.diff(shares) < 0).all()
    assert ((shares > 0) & (shares < 1)).all()


def test_a_sample_rank_orders_the_best_of_a_large_pool() -> None:
    """In float32, as scores are kept: a quantile in steps would tie them all, and 1 - share would run out of digits."""
    rng = np.random.default_rng(0)
    pool = np.sort(rng.normal(size=1_000_000)).astype(np.float32)
    rank = SampleRank.of(rng.choice(pool, 2000))
    assert (pool > rank.values[-1]).sum() > 100
    best = np.unique(pool[-10_000:])
    assert len(np.unique(-rank.share_above(best).astype(np.float32))) == len(best)
    assert np.abs(rank.share_above(pool) - np.arange(len(pool))[::-1] / len(pool)).max() < 0.05  # Kolmogorov: 1.36 / sqrt(2000) = 0.03
