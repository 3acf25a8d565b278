from __future__ import annotations

import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from dsel.error import InputError
from dsel.functional.cores import num_cores
from dsel.functional.evidence import Tridiagonal, project
from dsel.functional.logme import logme, logme_of_maps, to_columns

SHAPES = [(40, 6), (12, 30), (20, 20), (9, 8)]


def make(num_rows: int, dim: int, rank: int | None = None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings with a decaying spectrum, and labels of three classes that follow them in part."""
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(num_rows, rank or dim)) @ (rng.normal(size=(rank or dim, dim)) * 0.8 ** np.arange(dim))
    logits = embeddings @ rng.normal(size=(dim, 3)) + 2 * rng.normal(size=(num_rows, 3))
    labels = logits.argmax(1)
    labels[:3] = [0, 1, 2]
    return embeddings, labels


def dense(embeddings: np.ndarray, column: np.ndarray, alpha: float, beta: float) -> float:
    """The log marginal likelihood of a column, from its definition."""
    covariance = np.eye(len(column)) / beta + embeddings @ embeddings.T / alpha
    return float(multivariate_normal(np.zeros(len(column)), covariance).logpdf(column))


def fixed_point(embeddings: np.ndarray, column: np.ndarray) -> tuple[float, float, float]:
    """Evidence per row, alpha and beta as published: from alpha = beta = 1 to a fixed point, by the singular value decomposition."""
    (num_rows, dim), (left, singular, _) = embeddings.shape, np.linalg.svd(embeddings, full_matrices=False)
    left, sigma = left[:, singular > 1e-9], singular[singular > 1e-9] ** 2
    x2, t = (left.T @ column) ** 2, 1.0
    r = column @ column - x2.sum()
    for _ in range(5000):
        gamma = (sigma / (sigma + t)).sum()
        m, residual = (sigma * x2 / (t + sigma) ** 2).sum(), (x2 / (1 + sigma / t) ** 2).sum() + r
        alpha, beta = gamma / m, (num_rows - gamma) / residual
        t = alpha / beta
    total = dim * np.log(alpha) + num_rows * np.log(beta / (2 * np.pi)) - np.log(alpha + beta * sigma).sum() - beta * residual - alpha * m
    return (total - (dim - len(sigma)) * np.log(alpha)) / 2 / num_rows, alpha, beta


@pytest.mark.parametrize(("num_rows", "dim"), SHAPES)
@pytest.mark.parametrize("rank", [None, 4])
def test_evidence_is_the_marginal_likelihood(num_rows: int, dim: int, rank: int | None) -> None:
    embeddings, labels = make(num_rows, dim, rank)
    columns = to_columns(labels, num_rows, regression=False)
    found = project(embeddings, columns).maximise()
    for column in range(3):
        expected = dense(embeddings, columns[:, column], found.alpha[column], found.beta[column]) / num_rows
        assert found.per_row[column] == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(("num_rows", "dim"), SHAPES)
def test_evidence_is_a_maximum(num_rows: int, dim: int) -> None:
    embeddings, labels = make(num_rows, dim)
    columns = to_columns(labels, num_rows, regression=False)
    found = project(embeddings, columns).maximise()
    for column in range(3):
        best = max(
            -minimize(
                lambda point, column=column: -dense(embeddings, columns[:, column], *np.exp(point)) / num_rows,
                start,
                method="Nelder-Mead",
                options={"xatol": 1e-7, "fatol": 1e-11},
            ).fun
            for start in ([0.0, 0.0], [3.0, -1.0], [-3.0, 2.0])
        )
        assert found.per_row[column] >= best - 1e-9  # never below what a search finds
        assert found.per_row[column] == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize(("num_rows", "dim"), [(40, 6), (12, 30)])
def test_it_is_the_published_fixed_point(num_rows: int, dim: int) -> None:
    embeddings, labels = make(num_rows, dim)
    columns = to_columns(labels, num_rows, regression=False)
    found = project(embeddings, columns).maximise()
    for column in range(3):
        expected = fixed_point(embeddings, columns[:, column])
        got = found.per_row[column], found.alpha[column], found.beta[column]
        assert got == pytest.approx(expected, rel=1e-6)
    assert logme(embeddings, labels, regression=False) == pytest.approx(found.per_row.mean(), abs=1e-14)


def test_without_the_rank_term_noise_of_few_rows_scores_high() -> None:
    rng = np.random.default_rng(0)
    noise, labels = rng.normal(size=(8, 768)), np.arange(8) % 2
    found = project(noise, to_columns(labels, 8, regression=False)).maximise()
    assert (found.per_row + (768 - 8) / 2 * np.log(found.alpha) / 8 > 100).all()
    assert -2 < logme(noise, labels, regression=False) < 0


@settings(deadline=None, max_examples=40)
@given(st.integers(4, 30), st.integers(1, 30), st.integers(0, 10**6), st.sampled_from([1e-4, 1.0, 1e4]), st.booleans())
def test_rotations_and_scales_change_nothing(num_rows: int, dim: int, seed: int, scale: float, regression: bool) -> None:
    rng = np.random.default_rng([seed, 1])
    embeddings, labels = make(num_rows, dim, seed=seed)
    target = rng.normal(size=num_rows) if regression else labels
    turn = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    wide = np.hstack([scale * embeddings @ turn, np.zeros((num_rows, 5))])
    expected = logme(embeddings, target, regression=regression)
    assert np.isfinite(expected)
    if num_rows > dim:  # with no rows to spare the evidence may grow without a bound, and ends where rounding does
        assert logme(wide, target, regression=regression) == pytest.approx(expected, abs=1e-6)


def test_an_exact_fit_is_finite_and_keeps_its_score_when_turned() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(30, 5))
    target = embeddings @ rng.normal(size=5)
    exact = logme(embeddings, target, regression=True)
    assert exact > logme(embeddings, target + 1e-3 * rng.normal(size=30), regression=True) + 5
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    assert logme_of_maps(embeddings, [(1e3 * turn, None)], target, regression=True)[0] == pytest.approx(exact, abs=1e-6)


def test_embeddings_of_zero_leave_the_evidence_of_noise() -> None:
    target = np.array([1.0, -2.0, 3.0, 0.5])
    expected = -0.5 * (np.log(2 * np.pi * (target**2).mean()) + 1)
    assert logme(np.zeros((4, 3)), target, regression=True) == pytest.approx(expected)


def test_the_truth_scores_highest() -> None:
    rng = np.random.default_rng(0)
    weights, embeddings = rng.normal(size=8), rng.normal(size=(60, 8))
    target = embeddings @ weights + 0.1 * rng.normal(size=60)
    scores = [logme(embeddings + noise * rng.normal(size=(60, 8)), target, regression=True) for noise in (0, 0.3, 1, 3)]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("num_rows", "dim", "out"), [(60, 6, 6), (60, 6, 9), (60, 9, 6), (12, 30, 30), (14, 12, 12), (20, 30, 8), (8, 6, 20)]
)
@pytest.mark.parametrize("regression", [False, True])
def test_of_maps_equals_one_by_one(num_rows: int, dim: int, out: int, regression: bool) -> None:
    rng = np.random.default_rng(1)
    base, labels = make(num_rows, dim)
    target = base @ rng.normal(size=dim) + rng.normal(size=num_rows) if regression else labels
    maps = [(rng.normal(size=(out, dim)), rng.normal(size=out)), (rng.normal(size=(out, dim)), None), (np.ones((out, dim)), np.ones(out))]
    expected = [logme(base @ weight.T + (0 if bias is None else bias), target, regression=regression) for weight, bias in maps]
    np.testing.assert_allclose(logme_of_maps(base, iter(maps), target, regression=regression), expected, rtol=0, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 24), st.integers(1, 20), st.integers(0, 3), st.integers(0, 10**6), st.sampled_from([1e-4, 1.0, 1e4]), st.booleans())
def test_the_tridiagonal_form_tells_the_same(dim: int, more: int, num_classes: int, seed: int, scale: float, offset: bool) -> None:
    rng, num_rows = np.random.default_rng(seed), dim + 4 + more
    embeddings = np.asfortranarray(scale * (rng.normal(size=(num_rows, dim)) + 10 * offset))
    target = rng.normal(size=num_rows) if num_classes < 2 else np.arange(num_rows) % num_classes
    columns = to_columns(target, num_rows, regression=num_classes < 2)
    found = Tridiagonal.of(embeddings, columns, num_rows).maximise()
    assert found is not None
    np.testing.assert_allclose(found, project(embeddings, columns).maximise().per_row, rtol=0, atol=1e-8)


@pytest.mark.parametrize("rank", [None, 4])
@pytest.mark.parametrize("noise", [0.1, 3.0])
def test_the_tridiagonal_form_tells_the_same_of_spectra_that_decay(rank: int | None, noise: float) -> None:
    rng = np.random.default_rng(0)
    embeddings, _ = make(200, 60, rank)
    columns = (embeddings @ rng.normal(size=60) + noise * rng.normal(size=200))[:, None]
    found = Tridiagonal.of(np.asfortranarray(embeddings), columns, 200).maximise()
    assert found is not None
    np.testing.assert_allclose(found, project(embeddings, columns).maximise().per_row, rtol=0, atol=1e-8)


def test_the_tridiagonal_form_leaves_close_fits_to_the_spectrum() -> None:
    rng = np.random.default_rng(0)
    embeddings = np.asfortranarray(rng.normal(size=(40, 6)))
    fitted = embeddings @ rng.normal(size=(6, 1))
    assert Tridiagonal.of(embeddings, fitted, 40).maximise() is None
    assert Tridiagonal.of(np.zeros_like(embeddings), fitted, 40).maximise() is None
    assert Tridiagonal.of(embeddings, np.hstack([fitted, rng.normal(size=(40, 1))]), 40).maximise() is None


def test_few_maps_are_in_memory() -> None:
    base, labels = make(60, 6)
    alive: list[int] = []
    most = 0

    def maps() -> Iterator[tuple[np.ndarray, None]]:
        nonlocal most
        for seed in range(100):
            weight = np.random.default_rng(seed).normal(size=(6, 6))
            alive.append(seed)
            weakref.finalize(weight, alive.remove, seed)
            most = max(most, len(alive))
            yield weight, None

    assert len(logme_of_maps(base, maps(), labels, regression=False)) == 100
    assert most <= 2 * num_cores() + 3


def test_no_maps_no_scores() -> None:
    base, labels = make(10, 4)
    assert logme_of_maps(base, [], labels, regression=False).shape == (0,)


def test_bad_input_is_named() -> None:
    base, labels = make(10, 4)
    broken = base.copy()
    broken[6, 1] = np.nan
    cases = [
        (r"row 6: its embedding is not finite", broken, labels, False),
        (r"all 10 rows are of class 2", base, np.full(10, 2), False),
        (r"10 classes for 10 rows", base, np.arange(10), False),
        (r"labels: \(9,\) for 10 rows", base, labels[:9], False),
        (r"row 0: its label is -1", base, labels - 1, False),
        (r"row 4: its label is nan", base, np.where(np.arange(10) == 4, np.nan, 1.0 * labels), True),
        (r"all 10 are 0\.5", base, np.full(10, 0.5), True),
        (r"float64; classes are whole numbers", base, 1.0 * labels, False),
        (r"shape \(0, 4\)", base[:0], labels[:0], False),
    ]
    for message, embeddings, values, regression in cases:
        with pytest.raises(InputError, match=message):
            logme(embeddings, values, regression=regression)
    good = (np.eye(4), None)
    for message, bad in [
        (r"map 1: its weight is \(4, 5\), the embeddings have 4", (np.ones((4, 5)), None)),
        (r"map 1: its bias is \(3,\)", (np.eye(4), np.ones(3))),
        (r"map 1: its weight or bias is not finite", (np.eye(4), np.full(4, np.inf))),
    ]:
        with pytest.raises(InputError, match=message):
            logme_of_maps(base, [good, bad], labels, regression=False)
