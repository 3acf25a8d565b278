"""Regressions over subsets against scikit-learn, scipy and one subset at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression, Ridge

from dsel.error import InputError
from dsel.functional.subset_regression import Rows, choose_penalty, estimate_losses, fit_logistic, fit_squared
from dsel.functional.subset_search import random_subsets


def make(num_tasks: int = 6, rows_each: int = 10, dim: int = 5, seed: int = 0, scale: float = 1.0) -> Rows:
    """Tasks with a direction of their own and one in common, in a random order of rows."""
    rng = np.random.default_rng(seed)
    task = rng.permutation(np.repeat(np.arange(num_tasks), rows_each))
    features = 0.5 * rng.normal(size=dim) + 0.5 * rng.normal(size=(num_tasks, dim))[task] + rng.normal(size=(len(task), dim))
    return Rows((scale * features).astype(np.float32), rng.normal(1, 2, len(task)), task, num_tasks)


def every_subset(num_tasks: int) -> np.ndarray:
    return np.array([[bool(number >> task & 1) for task in range(num_tasks)] for number in range(1, 1 << num_tasks)])


def by_scipy(rows: Rows, subset: np.ndarray, penalty: float) -> np.ndarray:
    """One subset, by its own rows alone."""
    inside = subset[rows.task]
    features, outputs = rows.features[inside].astype(np.float64), rows.outputs[inside]

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margins = outputs + features @ weights
        gradient = -(expit(-margins) @ features) / len(features) + 2 * penalty * weights
        return np.logaddexp(0, -margins).mean() + penalty * weights @ weights, gradient

    def hessian(weights: np.ndarray) -> np.ndarray:
        margins = outputs + features @ weights
        return (features.T * (expit(margins) * expit(-margins) / len(features))) @ features + 2 * penalty * np.eye(features.shape[1])

    found = minimize(objective, np.zeros(features.shape[1]), jac=True, hess=hessian, method="trust-exact", options={"gtol": 1e-13})
    return found.x


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("penalty", [1e-3, 1e-2, 1.0])
@pytest.mark.parametrize(("dim", "scale"), [(5, 1.0), (5, 20.0), (40, 0.1), (90, 1.0)])
def test_equals_scipy(dim: int, scale: float, penalty: float) -> None:
    rows = make(dim=dim, scale=scale)
    subsets = every_subset(6)[::7]
    for weights, subset in zip(fit_logistic(rows, subsets, penalty), subsets, strict=True):
        expected = by_scipy(rows, subset, penalty)
        np.testing.assert_allclose(weights, expected, atol=1e-8 * max(1, np.abs(expected).max()))


def test_equals_scikit_learn_without_an_offset() -> None:
    """scikit-learn has labels and no offset: a row of label -1 is one with its features the other way round."""
    rows, labels = replace(make(), outputs=np.zeros(60)), np.random.default_rng(1).choice([-1, 1], 60)
    ours = replace(rows, features=rows.features * labels[:, None].astype(np.float32))
    subsets = every_subset(6)[5::9]
    for weights, subset in zip(fit_logistic(ours, subsets, 1e-2), subsets, strict=True):
        inside = subset[rows.task]
        fitted = LogisticRegression(C=1 / (2 * inside.sum() * 1e-2), fit_intercept=False, tol=1e-12, max_iter=10_000)
        np.testing.assert_allclose(weights, fitted.fit(rows.features[inside].astype(np.float64), labels[inside]).coef_[0], atol=1e-7)


def test_equals_ridge() -> None:
    labels, subsets = np.random.default_rng(1).normal(size=60), every_subset(6)[3::5]
    for dim in (5, 90):
        rows = make(dim=dim)
        for weights, subset in zip(fit_squared(rows, labels, subsets, 1e-2), subsets, strict=True):
            inside = subset[rows.task]
            ridge = Ridge(alpha=1e-2 * inside.sum(), fit_intercept=False, solver="cholesky")
            expected = ridge.fit(rows.features[inside].astype(np.float64), (labels - rows.outputs)[inside]).coef_
            np.testing.assert_allclose(weights, expected, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 12), st.integers(0, 999), st.sampled_from([0.01, 1.0, 30.0]), st.floats(-4, 1))
def test_no_gradient_is_left(num_tasks: int, rows_each: int, dim: int, seed: int, scale: float, log_penalty: float) -> None:
    rows, penalty, subsets = make(num_tasks, rows_each, dim, seed, scale), 10**log_penalty, every_subset(num_tasks)
    labels = np.random.default_rng(seed).normal(size=len(rows.task))
    logistic, squared = fit_logistic(rows, subsets, penalty), fit_squared(rows, labels, subsets, penalty)
    for number, subset in enumerate(subsets):
        inside = subset[rows.task]
        features, outputs = rows.features[inside].astype(np.float64), rows.outputs[inside]
        slope = expit(-outputs - features @ logistic[number])
        assert np.abs(2 * penalty * logistic[number] - slope @ features / len(features)).max() < 1e-8 * scale
        gap = outputs + features @ squared[number] - labels[inside]
        assert np.abs(penalty * squared[number] + gap @ features / len(features)).max() < 1e-9 * max(1, scale**2)


def test_neither_the_order_of_subsets_nor_of_rows_nor_repeats_matter() -> None:
    rows, subsets = make(dim=8), every_subset(6)
    expected = fit_logistic(rows, subsets, 1e-2)
    order = np.random.default_rng(0).permutation(63)
    np.testing.assert_allclose(fit_logistic(rows, subsets[order], 1e-2), expected[order], atol=1e-8)
    np.testing.assert_allclose(fit_logistic(rows, subsets[[4, 4]], 1e-2), expected[[4, 4]], atol=1e-8)
    twice = np.random.default_rng(0).permutation(np.repeat(np.arange(60), 2))
    repeated = Rows(rows.features[twice], rows.outputs[twice], rows.task[twice], 6)
    np.testing.assert_allclose(fit_logistic(repeated, subsets, 1e-2), expected, atol=1e-8)
    labels = rows.outputs**2
    np.testing.assert_allclose(fit_squared(repeated, labels[twice], subsets, 1e-2), fit_squared(rows, labels, subsets, 1e-2), atol=1e-10)


def test_inputs_may_be_read_only_and_stay_as_they_are() -> None:
    rows, subsets = make(), every_subset(6)[:3]
    for values in (rows.features, rows.outputs, rows.task, subsets):
        values.setflags(write=False)
    weights = fit_logistic(rows, subsets, 1e-2)
    fit_squared(rows, rows.outputs, subsets, 1e-2)
    estimate_losses(weights, rows.features, rows.outputs)
    assert fit_logistic(rows, subsets[:0], 1e-2).shape == (0, 5)


def test_estimates_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    weights, features, outputs = rng.normal(size=(7, 3)), rng.normal(size=(4, 3)).astype(np.float32), np.array([0.0, 900, -900, 25])
    expected = np.logaddexp(0, -(outputs + weights @ features.T.astype(np.float64)))
    np.testing.assert_allclose(estimate_losses(weights, features, outputs), expected, rtol=1e-12, atol=0)
    monkeypatch.setattr("dsel.functional.logistic_regression.BYTES", 200)
    np.testing.assert_allclose(estimate_losses(weights, features, outputs), expected, rtol=1e-12, atol=0)


def test_trap_offset_left_out() -> None:
    """Three rows that the model is sure of say +, two that it gets wrong say -: what is wrong must be mended."""
    features = np.array([[1], [1], [1], [-1], [-1]], np.float32)
    rows = Rows(features, np.array([6.0, 6, 6, -3, -3]), np.zeros(5, np.int64), 1)
    everything = np.ones((1, 1), dtype=bool)
    assert fit_logistic(rows, everything, 1e-2)[0, 0] < -1
    assert fit_logistic(replace(rows, outputs=np.zeros(5)), everything, 1e-2)[0, 0] > 0.1


def test_trap_sum_instead_of_mean() -> None:
    """Of tasks that are all alike, it does not matter how many one takes. With a sum, the penalty would weigh less the more there are."""
    one = make(1, 20)
    rows = Rows(np.tile(one.features, (12, 1)), np.tile(one.outputs, 12), np.repeat(np.arange(12), 20), 12)
    sizes, target = np.arange(1, 13), make(1, 30, seed=1)
    subsets = np.tril(np.ones((12, 12), dtype=bool))

    def estimates(weights: np.ndarray) -> np.ndarray:
        return estimate_losses(weights, target.features, target.outputs).mean(1)

    assert np.ptp(estimates(fit_logistic(rows, subsets, 1e-2))) < 1e-9
    sums = np.concatenate([fit_logistic(rows, subsets[[size - 1]], 1e-2 / size) for size in sizes])
    assert abs(spearmanr(estimates(sums), sizes).statistic) > 0.99


def test_subset_size_does_not_decide_the_estimate() -> None:
    """Random tasks, half of which harm: what matters is which, not how many."""
    rng = np.random.default_rng(0)
    task = np.repeat(np.arange(16), 10)
    features = rng.normal(size=(160, 6)) + np.where(task < 8, 1, -1)[:, None]
    rows = Rows(features.astype(np.float32), np.zeros(160), task, 16)
    subsets = np.concatenate([random_subsets(16, size, 30, size) for size in range(2, 15)])
    target = (rng.normal(size=(50, 6)) + 1).astype(np.float32)
    losses = estimate_losses(fit_logistic(rows, subsets, 1e-2), target, np.zeros(50)).mean(1)
    assert abs(spearmanr(losses, subsets.sum(1)).statistic) < 0.2
    assert spearmanr(losses, subsets[:, :8].sum(1) / subsets.sum(1)).statistic < -0.95


def test_trap_too_strong_a_penalty_gives_the_mean_gradient() -> None:
    """Directions that vary more count for less than their mean says; a penalty that drowns the data cannot know."""
    rng = np.random.default_rng(0)
    truth, spread = rng.normal(size=8), np.array([4, 2, 1, 1, 0.5, 0.5, 0.3, 0.2])
    inputs = rng.normal(size=(600, 8)) * spread
    labels = np.where(rng.random(600) < expit(inputs @ truth), 1, -1)
    rows = Rows((labels[:, None] * inputs).astype(np.float32), np.zeros(600), np.arange(600) % 6, 6)
    everything, path = np.ones((1, 6), dtype=bool), [1e-4, 1e-3, 1e-2, 1e-1, 1, 1e4]
    mean = rows.features.mean(0, dtype=np.float64)
    assert cosine(fit_logistic(rows, everything, 1e4)[0], mean) > 0.99999
    penalty, losses = choose_penalty(rows, everything, path)
    chosen = fit_logistic(rows, everything, penalty)[0]
    assert penalty < 0.1
    assert losses[-1] > losses.min() + 0.05
    assert cosine(chosen, mean) < 0.9
    assert cosine(chosen, truth) > 0.9 > 0.7 > cosine(mean, truth)


def test_trap_reported_on_rows_that_were_fitted() -> None:
    """More features than rows and nothing to learn: fitted rows praise the smallest penalty, others the largest."""
    rows = make(4, 10, dim=80)
    rng, subsets, path = np.random.default_rng(0), every_subset(4)[-3:], [1e-4, 1e-2, 1.0, 100.0]
    rows = replace(rows, features=rng.normal(size=(40, 80)).astype(np.float32), outputs=np.zeros(40))
    fitted = [
        np.mean([row[subset[rows.task]].mean() for row, subset in zip(estimates, subsets, strict=True)])
        for estimates in (estimate_losses(fit_logistic(rows, subsets, penalty), rows.features, rows.outputs) for penalty in path)
    ]
    assert np.argmin(fitted) == 0
    penalty, losses = choose_penalty(rows, subsets, path)
    assert penalty == 100
    assert fitted[0] < 0.01 < 0.5 < losses[0]


def test_held_out_rows_are_not_fitted() -> None:
    """A feature for each row: nothing learned from some helps the others, so the loss is that of the outputs, whatever the penalty."""
    sizes = np.array([10, 5, 2, 1])
    task = np.random.default_rng(0).permutation(np.repeat(np.arange(4), sizes))
    rows = Rows(np.eye(18, dtype=np.float32), np.array([0.0, 1, 2, 3])[task], task, 4)
    held = np.array([3, 2, 1, 0])  # round(0.3 * 10), round(0.3 * 5), at least one, never all
    for subset in ([1, 0, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1]):
        mask = np.array([subset], dtype=bool)
        penalty, losses = choose_penalty(rows, mask, [1e-3, 1.0, 10.0, 1e-1], held_out_share=0.3, seed=5)
        np.testing.assert_allclose(losses, (mask[0] * held) @ np.log1p(np.exp(-np.arange(4.0))) / (mask[0] * held).sum(), rtol=1e-12)
        assert penalty == 10  # ties
    with pytest.raises(InputError, match="subset 1: its tasks have one row each"):
        choose_penalty(rows, np.array([[1, 0, 0, 0], [0, 0, 0, 1]], dtype=bool), [1.0])


def test_the_penalty_depends_on_the_seed_alone() -> None:
    rows, subsets = make(), every_subset(6)[20:23]
    penalty, losses = choose_penalty(rows, subsets, [1e-3, 1e-1], seed=1)
    again = choose_penalty(rows, subsets, [1e-1, 1e-3], seed=1)
    assert again[0] == penalty
    np.testing.assert_array_equal(again[1], losses[::-1])
    assert (choose_penalty(rows, subsets, [1e-3, 1e-1], seed=2)[1] != losses).all()


def test_bad_subsets_are_named() -> None:
    rows = make(8)
    subsets = np.ones((4, 8), dtype=bool)
    subsets[2] = False
    for call in (lambda masks: fit_logistic(rows, masks, 1e-2), lambda masks: fit_squared(rows, rows.outputs, masks, 1e-2)):
        with pytest.raises(InputError, match="subset 2: holds no task"):
            call(subsets)
        with pytest.raises(InputError, match="a subset mask has 7 columns, there are 8 tasks"):
            call(subsets[:, :7])
        with pytest.raises(InputError, match=r"int64 of shape \(1, 8\); expected bool"):
            call(np.ones((1, 8), np.int64))


@pytest.mark.parametrize("penalty", [0, -1.0, np.nan, np.inf])
def test_a_penalty_that_is_none(penalty: float) -> None:
    rows, subsets = make(), every_subset(6)
    for call in (lambda: fit_logistic(rows, subsets, penalty), lambda: fit_squared(rows, rows.outputs, subsets, penalty)):
        with pytest.raises(InputError, match=f"penalty={penalty}: must be above 0"):
            call()


def test_a_penalty_that_rounding_swallows() -> None:
    rows, subsets = Rows(np.ones((6, 3), np.float32), np.zeros(6), np.arange(6) // 2, 3), np.ones((2, 3), dtype=bool)
    with pytest.raises(InputError, match="subset 0: penalty=1e-30 is lost in rounding"):
        fit_squared(rows, np.ones(6), subsets, 1e-30)


def test_bad_paths_and_labels() -> None:
    rows, subsets = make(), every_subset(6)
    for path in ([], [0.1, 0.0]):
        with pytest.raises(InputError, match="penalties="):
            choose_penalty(rows, subsets, path)
    with pytest.raises(InputError, match=r"held_out_share=1\.0"):
        choose_penalty(rows, subsets, [1.0], held_out_share=1.0)
    for labels in (np.ones(59), np.full(60, np.nan)):
        with pytest.raises(InputError, match="one finite label per row"):
            fit_squared(rows, labels, subsets, 1.0)


@pytest.mark.parametrize(
    ("field", "place", "value", "message"),
    [
        ("features", (7, 2), np.nan, r"row 7 \(task {task}\): its feature is nan"),
        ("outputs", 9, -np.inf, r"row 9 \(task {task}\): its output is -inf"),
        ("task", 4, 6, "row 4: task 6, there are 6 tasks"),
        ("task", 4, -1, "row 4: task -1, there are 6 tasks"),
    ],
)
def test_bad_rows_are_named(field: str, place: int | tuple[int, int], value: float, message: str) -> None:
    rows = make()
    values = getattr(rows, field).copy()
    values[place] = value
    with pytest.raises(InputError, match=message.format(task=rows.task[place if isinstance(place, int) else place[0]])):
        replace(rows, **{field: values})


def test_rows_that_do_not_fit() -> None:
    rows = make()
    with pytest.raises(InputError, match="task 6: has no rows"):
        replace(rows, num_tasks=7)
    with pytest.raises(InputError, match=r"outputs \(59,\)"):
        replace(rows, outputs=rows.outputs[1:])
