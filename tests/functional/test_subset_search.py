"""Searches against trying all subsets."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dsel.error import InputError
from dsel.functional.subset_search import (
    Evaluate,
    affinities,
    backward_selection,
    choose_by_threshold,
    forward_selection,
    lazy_forward_selection,
    random_subsets,
)


class Counted:
    """An estimate that knows what it was asked."""

    def __init__(self, evaluate: Evaluate) -> None:
        self.evaluate, self.calls = evaluate, []

    def __call__(self, subsets: np.ndarray) -> np.ndarray:
        assert subsets.dtype == bool
        assert subsets.any(1).all()  # no one can fit a model on no task
        self.calls.append(len(subsets))
        return self.evaluate(subsets)


def modular(gains: np.ndarray) -> Evaluate:
    return lambda subsets: 10 - subsets @ gains


def facility_location(num_tasks: int, num_rows: int, seed: int, cost: float = 0.0) -> Evaluate:
    """How well each row's nearest task serves it, less what tasks cost: submodular."""
    served = np.random.default_rng(seed).random((num_rows, num_tasks))
    return lambda subsets: 1 - np.where(subsets[:, None], served, 0).max(2).mean(1) + cost * subsets.sum(1)


def pairwise(num_tasks: int, seed: int) -> Evaluate:
    """Any two tasks help or hurt each other."""
    matrix = np.random.default_rng(seed).normal(size=(num_tasks, num_tasks))
    return lambda subsets: np.einsum("si,ij,sj->s", subsets, matrix, subsets)


def exhaustive(evaluate: Evaluate, num_tasks: int, sizes: range) -> list[int]:
    every = [members for size in sizes for members in combinations(range(num_tasks), size)]
    masks = np.array([[task in members for task in range(num_tasks)] for members in every])
    return list(every[int(np.argmin(evaluate(masks)))])


def stepwise(evaluate: Evaluate, num_tasks: int, most: int) -> list[int]:
    """Forward selection, one subset at a time."""
    chosen: list[int] = []
    loss = np.inf
    while len(chosen) < most:
        trials = []
        for task in set(range(num_tasks)) - set(chosen):
            mask = np.zeros((1, num_tasks), dtype=bool)
            mask[0, [*chosen, task]] = True
            trials.append((float(evaluate(mask)[0]), task))
        if min(trials, default=(np.inf, 0))[0] >= loss:
            break
        loss, task = min(trials)
        chosen.append(task)
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_of_tasks_that_do_not_touch_each_other_the_search_finds_the_best_subset(seed: int) -> None:
    evaluate = modular(np.random.default_rng(seed).normal(size=8))
    best = exhaustive(evaluate, 8, range(1, 9))
    assert sorted(forward_selection(evaluate, 8)) == best
    assert sorted(lazy_forward_selection(evaluate, 8)) == best
    assert backward_selection(evaluate, 8) == best
    assert sorted(forward_selection(evaluate, 8, most=2)) == exhaustive(evaluate, 8, range(1, 3))


@pytest.mark.parametrize("size", range(1, 6))
def test_of_tasks_that_stand_in_for_each_other_the_search_finds_the_best_subset(size: int) -> None:
    """Tasks 0 to 3 serve rows of their own, unequally many; 4 to 7 serve the same rows less well."""
    served = np.repeat(np.hstack([np.eye(4), 0.6 * np.eye(4)]), [9, 5, 3, 2], axis=0)

    def evaluate(subsets: np.ndarray) -> np.ndarray:
        return 1 - np.where(subsets[:, None], served, 0).max(2).mean(1)

    best = exhaustive(evaluate, 8, range(1, size + 1))
    assert sorted(forward_selection(evaluate, 8, size)) == sorted(lazy_forward_selection(evaluate, 8, size)) == best
    assert best == list(range(min(size, 4)))


@pytest.mark.parametrize("seed", range(5))
def test_of_submodular_gains_the_search_is_within_its_guarantee(seed: int) -> None:
    evaluate = facility_location(8, 20, seed)
    found, best = forward_selection(evaluate, 8, most=3), exhaustive(evaluate, 8, range(3, 4))
    masks = np.zeros((2, 8), dtype=bool)
    masks[0, found] = masks[1, best] = True
    gain, most = 1 - evaluate(masks)
    assert (1 - 1 / np.e) * most <= gain <= most
    assert found == stepwise(evaluate, 8, 3)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(0, 999), st.integers(1, 9), st.sampled_from([modular, facility_location, pairwise]))
def test_forward_equals_one_subset_at_a_time_and_asks_once_a_step(
    num_tasks: int, seed: int, most: int, kind: Callable[..., Evaluate]
) -> None:
    made = {
        modular: lambda: modular(np.random.default_rng(seed).integers(-2, 3, num_tasks).astype(float)),  # with ties
        facility_location: lambda: facility_location(num_tasks, 15, seed, 0.03),
        pairwise: lambda: pairwise(num_tasks, seed),
    }[kind]()
    evaluate = Counted(made)
    found = forward_selection(evaluate, num_tasks, most)
    assert found == stepwise(made, num_tasks, min(most, num_tasks))
    assert evaluate.calls == list(range(num_tasks, 0, -1))[: len(evaluate.calls)]
    assert len(found) <= len(evaluate.calls) <= len(found) + 1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(0, 999), st.sampled_from([0.0, 0.02]), st.sampled_from([None, 1, 4]), st.sampled_from([1, 3]))
def test_lazy_finds_the_same_with_fewer_evaluations(num_tasks: int, seed: int, cost: float, most: int | None, at_once: int) -> None:
    plain, lazy = (Counted(facility_location(num_tasks, 10, seed, cost)) for _ in range(2))
    assert lazy_forward_selection(lazy, num_tasks, most, at_once) == forward_selection(plain, num_tasks, most)
    assert sum(lazy.calls) <= sum(plain.calls)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 99_999), st.integers(2, 6), st.sampled_from([0.0, 1.0, 0.3]))
@example(129, 5, 1.0)
@example(387, 5, 1.0)  # the loss is 0 on the way
def test_lazy_settles_ties_that_rounding_hides(seed: int, num_tasks: int, empty: float) -> None:
    rng = np.random.default_rng(seed)
    covers, worth = rng.random((6, num_tasks)) < 0.4, rng.integers(1, 4, 6) / 10

    def evaluate(subsets: np.ndarray) -> np.ndarray:
        return empty - np.array([sum(float(value) for value in worth[(covers & subset).any(1)]) for subset in subsets])

    assert lazy_forward_selection(evaluate, num_tasks) == forward_selection(evaluate, num_tasks)


def test_how_much_lazy_saves() -> None:
    plain, lazy = (Counted(facility_location(40, 60, 0)) for _ in range(2))
    assert lazy_forward_selection(lazy, 40, most=12) == forward_selection(plain, 40, most=12)
    assert sum(plain.calls) == sum(range(29, 41))
    assert sum(lazy.calls) < 0.6 * sum(plain.calls)
    assert sum(lazy.calls[2:]) < 0.5 * sum(plain.calls[2:])  # the first two steps have no bounds yet


def test_lazy_settles_ties_by_number() -> None:
    evaluate = modular(np.array([0.1, 0.3, 0.2, 0.3, 0.1 + 0.2, 0.0]))
    assert lazy_forward_selection(evaluate, 6) == forward_selection(evaluate, 6) == stepwise(evaluate, 6, 6)


@pytest.mark.parametrize("search", [forward_selection, lazy_forward_selection, backward_selection])
@pytest.mark.parametrize("kind", [facility_location(8, 20, 3, 0.03), pairwise(8, 3)])
def test_tasks_in_another_order_give_the_same_tasks(search: Callable[..., list[int]], kind: Evaluate) -> None:
    order = np.random.default_rng(1).permutation(8)  # new task i is old task order[i]
    found = search(lambda subsets: kind(subsets[:, np.argsort(order)]), 8)
    moved = [int(order[task]) for task in found]
    assert (sorted(moved) if search is backward_selection else moved) == search(kind, 8)


def test_one_pass_in_order_of_number_finds_another_subset() -> None:
    """Task 0 helps alone, but not beside task 2, which helps more: a single pass never takes it back."""
    losses = {(0,): 0.8, (1,): 0.9, (2,): 0.3, (0, 1): 0.7, (0, 2): 0.4, (1, 2): 0.35, (0, 1, 2): 0.5}

    def evaluate(subsets: np.ndarray) -> np.ndarray:
        return np.array([losses[tuple(np.flatnonzero(mask).tolist())] for mask in subsets])

    one_pass: list[int] = []
    loss = np.inf
    for task in range(3):
        if losses[(*one_pass, task)] < loss:
            loss, one_pass = losses[(*one_pass, task)], [*one_pass, task]
    assert one_pass == [0, 1, 2]
    assert forward_selection(evaluate, 3) == lazy_forward_selection(evaluate, 3) == backward_selection(evaluate, 3) == [2]


def test_backward_by_hand_and_down_to_a_number() -> None:
    evaluate = Counted(modular(np.array([3.0, -1.0, 2.0, -2.0, 1.0])))
    assert backward_selection(evaluate, 5) == [0, 2, 4]
    assert evaluate.calls == [1, 5, 4, 3]
    assert backward_selection(evaluate, 5, most=2) == [0, 2]
    assert backward_selection(evaluate, 5, most=1) == [0]
    assert backward_selection(modular(np.full(3, -1.0)), 3) == [2]  # ties: the lower number goes first


def test_where_nothing_works() -> None:
    def hopeless(subsets: np.ndarray) -> np.ndarray:
        return np.full(len(subsets), np.inf)

    assert forward_selection(hopeless, 4) == lazy_forward_selection(hopeless, 4) == []


@pytest.mark.parametrize("search", [forward_selection, lazy_forward_selection, backward_selection])
def test_bad_estimates_and_limits_are_errors(search: Callable[..., list[int]]) -> None:
    def broken(subsets: np.ndarray) -> np.ndarray:
        return np.where(subsets[:, 1] & (subsets.sum(1) != 2), np.nan, 1.0)

    with pytest.raises(InputError, match=r"the estimate of tasks \[.*1.*\] is nan"):
        search(broken, 3)
    with pytest.raises(InputError, match=r"losses of shape \(\) for \d subset"):
        search(lambda subsets: np.float64(1), 3)
    with pytest.raises(InputError, match="most=0 of 3 tasks"):
        search(modular(np.ones(3)), 3, 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.data())
def test_random_subsets_differ_and_tasks_are_in_about_equally_many(num_tasks: int, data: st.DataObject) -> None:
    size, count, seed = data.draw(st.integers(1, num_tasks)), data.draw(st.integers(1, 150)), data.draw(st.integers(0, 99))
    subsets = random_subsets(num_tasks, size, count, seed)
    assert subsets.shape == (min(count, comb(num_tasks, size)), num_tasks)
    assert (subsets.sum(1) == size).all()
    assert len(np.unique(subsets, axis=0)) == len(subsets)
    np.testing.assert_array_equal(subsets, random_subsets(num_tasks, size, count, seed))
    if len(subsets) == comb(num_tasks, size):
        assert np.ptp(subsets.sum(0)) == 0


def test_random_subsets_are_balanced_and_leave_global_state_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    subsets = random_subsets(20, 7, 200, 0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert np.ptp(subsets.sum(0)) <= 3
    assert np.ptp(subsets[:20].sum(0)) <= 4  # the first of them already
    assert (subsets != random_subsets(20, 7, 200, 1)).any()
    pairs = np.corrcoef(subsets.T.astype(float))[np.triu_indices(20, 1)]
    assert abs(pairs).max() < 0.35  # which tasks meet is chance


@pytest.mark.parametrize(("size", "count"), [(0, 1), (4, 1), (2, 0)])
def test_impossible_subsets_are_errors(size: int, count: int) -> None:
    with pytest.raises(InputError, match="subsets"):
        random_subsets(3, size, count, 0)


def test_affinities_by_hand_and_their_errors() -> None:
    subsets = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0]], dtype=bool)
    with pytest.raises(InputError, match="task 2: is in none of the 3 subsets"):
        affinities(subsets, np.arange(3.0))
    assert affinities(subsets[:, :2], np.array([1.0, 2.0, 4.0])).tolist() == [1.5, 2.5]
    with pytest.raises(InputError, match="subset 1: its loss is inf"):
        affinities(subsets, np.array([1.0, np.inf, np.inf]))


def test_affinities_separate_planted_tasks() -> None:
    gains = np.where(np.arange(20) < 8, 1.0, -1.0)
    noise = np.random.default_rng(0).normal(size=200)
    subsets = random_subsets(20, 7, 200, 0)
    assert set(np.argsort(affinities(subsets, modular(gains)(subsets) + noise))[:8]) == set(range(8))


def test_the_threshold_is_where_the_estimate_is_lowest() -> None:
    gains = np.array([-1.0, 2.0, 0.5, -3.0, 1.0])
    evaluate = Counted(modular(gains))
    assert choose_by_threshold(-gains, evaluate) == [1, 4, 2]
    assert evaluate.calls == [5]
    assert choose_by_threshold(-gains, evaluate, most=2) == [1, 4]
    assert choose_by_threshold(gains, evaluate) == [3, 0, 2, 4, 1]  # the wrong way round: nothing but everything will do
    assert choose_by_threshold(np.zeros(3), modular(np.zeros(3))) == [0]
    with pytest.raises(InputError, match="task 1: its affinity is nan"):
        choose_by_threshold(np.array([0, np.nan]), evaluate)
