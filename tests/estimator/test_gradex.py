"""GradEx beside brute force, where its model is exact; and the traps of the released code, on real gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from task_lab import TaskLab

from dsel.error import InputError
from dsel.estimator.gradex import GradEx, LinearEstimate, Moved
from dsel.features import Features
from dsel.functional.subset_regression import Rows, fit_logistic
from dsel.functional.subset_search import random_subsets
from dsel.functional.unit_outputs import unit_outputs
from dsel.subset import Work


def linear_problem(num_tasks: int = 6, each: int = 12, dim: int = 5, seed: int = 0) -> tuple[Rows, Features]:
    """Outputs that are linear in the parameters: the first-order expansion is exact."""
    rng = np.random.default_rng(seed)
    x, theta = rng.normal(size=(num_tasks * each + 30, dim)).astype(np.float32), rng.normal(size=dim)
    f = x.astype(np.float64) @ theta
    num = num_tasks * each
    return Rows(x[:num], f[:num], np.repeat(np.arange(num_tasks), each), num_tasks), Features(x[num:], f[num:], Work())


def trained(rows: Rows, target: Features, mask: np.ndarray[Any, Any], penalty: float) -> float:
    """The target's loss after really training theta + w on the subset, by another optimizer."""
    chosen = mask[rows.task]
    x, f = rows.features[chosen].astype(np.float64), rows.outputs[chosen]

    def loss(w: np.ndarray[Any, Any]) -> tuple[float, np.ndarray[Any, Any]]:
        z = f + x @ w
        slope = -1 / (1 + np.exp(z))
        return float(np.logaddexp(0, -z).mean() + penalty * w @ w), x.T @ slope / len(z) + 2 * penalty * w

    w = minimize(loss, np.zeros(x.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-10}).x
    return float(np.logaddexp(0, -(target.outputs + target.values.astype(np.float64) @ w)).mean())


@pytest.mark.parametrize("penalty", [1e-3, 1e-1])
def test_exact_where_the_model_is_linear(penalty: float) -> None:
    rows, target = linear_problem()
    subsets = random_subsets(6, 3, 12, 0)
    found = LinearEstimate(rows, target, penalty, Work())(subsets).mean(1)
    np.testing.assert_allclose(found, [trained(rows, target, mask, penalty) for mask in subsets], atol=1e-6)


def test_it_moves_along_the_weights_and_comes_back(tasks: TaskLab) -> None:
    """Forward evaluation at theta + P w, against parameters that were moved by hand."""
    context, estimator = tasks.context(), GradEx(dim=8, kind="rademacher", evaluate_by="forward")
    model = context.load(None).requires_grad_(True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights = torch.linspace(-1, 1, 8, dtype=torch.float64)
    moved = Moved(model, context.objective, tasks.target, 24, estimator.projection, None)
    losses = moved.losses(weights)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    size = sum(p.numel() for p in model.parameters())
    matrix = torch.zeros(size, 8)
    for first in range(0, size, 1000):
        block = torch.eye(min(1000, size - first))
        estimator.projection.add(matrix[first : first + 1000], block, first)
    step, offset = matrix.double() @ weights, 0
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(step[offset : offset + parameter.numel()].view_as(parameter).float())
            offset += parameter.numel()
    expected = np.logaddexp(0, -unit_outputs(model, context.objective, tasks.target.table, 24))
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-5)


def test_scale_is_a_share_of_the_parameters(tasks: TaskLab) -> None:
    context, projection = tasks.context(), GradEx(dim=8, kind="rademacher").projection
    weights = torch.ones(8, dtype=torch.float64)
    one, two = (
        Moved(context.load(None).requires_grad_(True), context.objective, tasks.target, 24, projection, 0.02).losses(factor * weights)
        for factor in (1, 100)
    )
    np.testing.assert_allclose(one, two, rtol=1e-4)


def test_both_ways_agree_for_small_steps(tasks: TaskLab) -> None:
    """With a large penalty the step is small, and a forward pass and the linear model say nearly the same."""
    subsets = np.eye(6, dtype=bool)
    linear, forward = (
        GradEx(dim=4000, penalty=100.0, evaluate_by=how).fit(tasks.source, tasks.target, tasks.context())(subsets).mean(1)
        for how in ("linear", "forward")
    )
    at_rest = np.logaddexp(0, -unit_outputs(tasks.context().load(None), tasks.context().objective, tasks.target.table, 24)).mean()
    assert np.abs(forward - at_rest).max() > 1e-5
    np.testing.assert_allclose(forward - at_rest, linear - at_rest, rtol=0.2, atol=2e-5)


def test_the_projection_hardly_matters_where_it_is_wide(tasks: TaskLab) -> None:
    subsets = random_subsets(6, 2, 15, 0)
    said = [GradEx(dim=2000, kind=kind, penalty=0.1).fit(tasks.source, tasks.target, tasks.context())(subsets).mean(1) for kind in
            ("sparse", "rademacher", "gaussian")]  # fmt: skip
    for other in said[1:]:
        assert np.corrcoef(said[0], other)[0, 1] > 0.9


def test_estimates_do_not_follow_the_size_of_subsets() -> None:
    """Trap: a sum over rows instead of their mean lets the step, and the estimate, grow with the number of rows."""
    rows, _ = linear_problem()
    twice = Rows(np.tile(rows.features, (2, 1)), np.tile(rows.outputs, 2), np.tile(rows.task, 2), 6)
    subsets = random_subsets(6, 3, 5, 0)
    np.testing.assert_allclose(fit_logistic(twice, subsets, 1e-2), fit_logistic(rows, subsets, 1e-2), atol=1e-7)


def test_without_the_offset_it_would_be_wrong() -> None:
    """Trap: outputs left out."""
    rows, target = linear_problem()
    bare = Rows(rows.features, np.zeros_like(rows.outputs), rows.task, 6)
    subsets = random_subsets(6, 3, 6, 0)
    truth = np.array([trained(rows, target, mask, 1e-2) for mask in subsets])
    without = LinearEstimate(bare, Features(target.values, np.zeros_like(target.outputs), Work()), 1e-2, Work())(subsets).mean(1)
    assert np.abs(without - truth).min() > 1e-3  # a thousand times what the right one is off


def test_the_squared_problem_in_closed_form() -> None:
    rows, target = linear_problem()
    subsets = random_subsets(6, 3, 5, 0)
    found = LinearEstimate(rows, target, 1e-2, Work(), "squared")(subsets)
    for mask, losses in zip(subsets, found, strict=True):
        chosen = mask[rows.task]
        x, rest = rows.features[chosen].astype(np.float64), np.log(99.0) - rows.outputs[chosen]
        w = np.linalg.solve(x.T @ x / len(x) + 1e-2 * np.eye(x.shape[1]), x.T @ rest / len(x))
        np.testing.assert_allclose(losses, np.logaddexp(0, -(target.outputs + target.values.astype(np.float64) @ w)), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"kind": "hadamard"}, "estimator.kind='hadamard'"),
        ({"problem": "hinge"}, "estimator.problem='hinge'"),
        ({"evaluate_by": "hand"}, "estimator.evaluate_by='hand'"),
        ({"dim": 0}, "estimator.dim=0"),
        ({"penalty": 0.0}, "estimator.penalty=0.0"),
        ({"penalties": []}, r"estimator.penalties=\[\]"),
    ],
)
def test_mistakes_name_their_key(options: dict[str, Any], key: str) -> None:
    with pytest.raises(InputError, match=key):
        GradEx(**options)
