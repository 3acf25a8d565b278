"""Linear heads against scikit-learn, and measures against numpy and scipy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import StandardScaler

from dsel.functional.linear_probe import fit_probe, performance


def rows(num_classes: int, seed: int = 0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Embeddings (row, dim) of other scales and means, and classes that hang on them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=90)
    spread = rng.normal(size=(90, 6)) + 0.8 * rng.normal(size=(num_classes, 6))[labels]
    return (spread * [1, 10, 0.1, 3, 1, 1] + [0, 50, 1, -4, 0, 0]).astype(np.float32), labels


@pytest.mark.parametrize("num_classes", [2, 4])
def test_classes_are_those_of_scikit_learn(num_classes: int) -> None:
    embeddings, labels = rows(num_classes)
    weight, bias = fit_probe(embeddings, labels, num_classes, regression=False)
    scaled = StandardScaler().fit_transform(embeddings.astype(np.float64))
    expected = LogisticRegression(tol=1e-8, max_iter=2000).fit(scaled, labels).predict_proba(scaled)
    logits = embeddings.astype(np.float64) @ weight.T + bias
    found = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(found / found.sum(1, keepdims=True), expected, atol=0.02)  # it stops a little earlier
    assert (np.abs(weight) > 1e-3).any()


@pytest.mark.parametrize("present", [[0, 2, 3], [1, 3]])
def test_a_class_without_rows_is_never_said(present: list[int]) -> None:
    embeddings, numbers = rows(len(present))
    weight, bias = fit_probe(embeddings, np.array(present)[numbers], 5, regression=False)
    alone = fit_probe(embeddings, numbers, len(present), regression=False)
    assert weight.shape == (5, 6)
    assert bias.shape == (5,)
    logits = embeddings @ weight.T + bias
    said = embeddings @ alone[0].T + alone[1]
    np.testing.assert_array_equal(logits.argmax(1), np.array(present)[said.argmax(1)])
    np.testing.assert_allclose(logits[:, present], said)
    absent = [number for number in range(5) if number not in present]
    assert (np.exp(logits - logits.max(1, keepdims=True))[:, absent] < 1e-3).all()


def test_numbers_are_those_of_ridge() -> None:
    embeddings, labels = rows(3)
    numbers = labels + np.random.default_rng(1).normal(size=90)
    weight, bias = fit_probe(embeddings, numbers, 1, regression=True)
    scaled = StandardScaler().fit_transform(embeddings.astype(np.float64))
    expected = Ridge(1.0).fit(scaled, numbers).predict(scaled)
    assert weight.shape == (1, 6)
    np.testing.assert_allclose((embeddings.astype(np.float64) @ weight.T + bias)[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize("regression", [False, True])
def test_columns_that_do_not_vary_change_nothing(regression: bool) -> None:
    embeddings, labels = rows(2)
    constant = np.hstack([embeddings, np.full((90, 2), 7.25, np.float32)])
    targets = labels.astype(np.float64) if regression else labels
    narrow, wide = (fit_probe(given, targets, 2 - regression, regression=regression) for given in (embeddings, constant))
    np.testing.assert_allclose(wide[0][:, :6], narrow[0], atol=1e-6)
    np.testing.assert_allclose(constant @ wide[0].T + wide[1], embeddings @ narrow[0].T + narrow[1], atol=1e-4)
    assert np.isfinite(wide[0]).all()


def test_performance_of_classes_and_numbers() -> None:
    rng = np.random.default_rng(0)
    outputs, labels = rng.normal(size=(50, 3)).astype(np.float32), rng.integers(3, size=50)
    assert performance(outputs, labels, regression=False) == accuracy_score(labels, outputs.argmax(1))
    numbers = outputs[:, 0] + rng.normal(size=50)
    expected = scipy.stats.pearsonr(outputs[:, 0].astype(np.float64), numbers).statistic
    assert performance(outputs[:, :1], numbers, regression=True) == pytest.approx(expected)
    assert performance(outputs[:, :1], np.ones(50), regression=True) == 0.0
    assert performance(np.ones((50, 1), np.float32), numbers, regression=True) == 0.0


def test_rows_of_one_class_fit_nothing() -> None:
    """As where the only row of the other class is held out."""
    weight, bias = fit_probe(np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32), np.full(9, 2), 3, regression=False)
    assert not weight.any()
    assert bias.argmax() == 2
    assert np.isfinite(bias).all()
