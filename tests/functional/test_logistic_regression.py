"""What the solver is made of. That it finds the minima: tests/functional/test_subset_regression.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit

from dsel.error import InputError
from dsel.functional import logistic_regression
from dsel.functional.logistic_regression import TOLERANCE, _Problem, minimise, span


def make(dim: int = 6, scale: float = 1.0, offset: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features, outputs, shares of 40 subsets of 5 tasks with 8 rows each, tasks."""
    rng = np.random.default_rng(0)
    task = np.repeat(np.arange(5), 8)
    subsets = np.vstack([np.eye(5, dtype=bool), rng.random((35, 5)) < 0.5])
    subsets[~subsets.any(1)] = True
    features = (scale * rng.normal(size=(40, dim))).astype(np.float32)
    return features, offset * rng.normal(size=40), subsets / (8 * subsets.sum(1, keepdims=True)), task


def open_gradients(made: tuple[np.ndarray, ...], penalty: float, weights: np.ndarray) -> np.ndarray:
    """Norms of gradients (subset,) as shares of what the solver promises."""
    features, outputs, shares, task = made[0].astype(np.float64), *made[1:]
    slopes = shares[:, task] * expit(-outputs - weights @ features.T)
    most = shares[:, task] @ (expit(-outputs) * np.linalg.norm(features, axis=1))
    return np.linalg.norm(2 * penalty * weights - slopes @ features, axis=1) / (TOLERANCE * np.maximum(most, 1e-290))


def test_gradients_and_hessians_equal_autograd() -> None:
    features, outputs, shares, task = (torch.from_numpy(values) for values in make())
    problem, of_rows = _Problem(features.double(), outputs, 0.03), shares[:, task]
    weights = torch.randn(40, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    values, gradients = problem.at(weights, of_rows)
    expected = (of_rows * torch.log1p(torch.exp(-outputs - weights @ features.double().T))).sum(1) + 0.03 * (weights**2).sum(1)
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected.sum(), weights)[0])
    one = weights.detach()[[7]]
    hessian = torch.autograd.functional.hessian(lambda w: problem.at(w[None], of_rows[[7]])[0][0], one[0])
    torch.testing.assert_close(problem.inverse_hessian(one, of_rows[[7]]) @ hessian, torch.eye(6, dtype=torch.float64))


@pytest.mark.parametrize("penalty", [1e-6, 1e-3, 1.0])
@pytest.mark.parametrize(("dim", "scale", "offset"), [(6, 1, 1), (6, 1e-6, 1), (6, 1e3, 1), (60, 30, 5), (30, 1, 300), (60, 1e-3, 30)])
def test_hard_regressions_converge_as_far_as_promised(dim: int, scale: float, offset: float, penalty: float) -> None:
    made = make(dim, scale, offset)
    assert open_gradients(made, penalty, minimise(*made, penalty)).max() < 1.1


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_one_by_one_finds_the_same(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    made = make(scale=scale)
    expected = minimise(*made, 1e-3)
    monkeypatch.setattr(logistic_regression, "STEPS", 1)
    found = minimise(*made, 1e-3)
    assert (found != expected).any()
    np.testing.assert_allclose(found, expected, atol=1e-7 * np.abs(expected).max())


def test_together_it_takes_no_newton_step_of_one_subset(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    newton = logistic_regression._newton
    monkeypatch.setattr(logistic_regression, "_newton", lambda *args: (calls.append(args), newton(*args))[1])
    for scale in (0.1, 1.0, 10.0):
        minimise(*make(scale=scale), 1e-3)
    assert len(calls) == 3  # the centres


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make()
    expected = minimise(*made, 1e-3)
    monkeypatch.setattr(logistic_regression, "BYTES", 8 * 1000)
    np.testing.assert_allclose(minimise(*made, 1e-3), expected, atol=1e-8)


def test_no_convergence_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic_regression, "STEPS", 0)
    monkeypatch.setattr(logistic_regression, "NEWTON_STEPS", 1)
    with pytest.raises(InputError, match=r"subset 0: no convergence in 1 steps at penalty=0\.001; raise it"):
        minimise(*make(scale=10.0), 1e-3)
    monkeypatch.setattr(logistic_regression, "BYTES", 8 * 1000)  # chunks of some subsets; the first of them have nothing to learn
    features, outputs, shares, task = make(scale=10.0)
    features[task == 0] = 0
    shares[:30] = shares[0]
    with pytest.raises(InputError, match="subset 30: no convergence"):
        minimise(features, outputs, shares, task, 1e-3)


def test_nothing_to_learn_leaves_weights_of_zero() -> None:
    features, outputs, shares, task = make()
    features[task == 1] = 0
    weights = minimise(features, outputs, shares, task, 1e-3)
    assert not weights[1].any()
    assert weights[0].any()
    assert not minimise(np.zeros_like(features), outputs, shares, task, 1e-3).any()
    assert minimise(features[:, :0], outputs, shares, task, 1e-3).shape == (40, 0)
    sure = minimise(features, np.full(40, 900.0), shares, task, 1e-3)
    assert not sure.any()


def test_span_keeps_products() -> None:
    features = torch.randn(5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    within, basis = span(features)
    assert basis is not None
    assert within.shape == (5, 5)
    torch.testing.assert_close(within @ basis.T, features)
    torch.testing.assert_close(within @ within.T, features @ features.T)
    assert span(features.T)[1] is None
