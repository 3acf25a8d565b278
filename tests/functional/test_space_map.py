from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import Ridge

from dsel.error import InputError
from dsel.functional.space_map import Sgd, apply, fit_ridge, fit_sgd


def make(num_rows: int = 60, dim: int = 5, out: int = 5, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Base embeddings, tuned ones and the weight between them."""
    rng = np.random.default_rng(0)
    base, weight = rng.normal(size=(num_rows, dim)) + 1, rng.normal(size=(out, dim))
    return base.astype(np.float32), (base @ weight.T + 2 + noise * rng.normal(size=(num_rows, out))).astype(np.float32), weight


@pytest.mark.parametrize(("num_rows", "dim", "out"), [(60, 5, 5), (60, 5, 8), (10, 20, 7), (20, 20, 20)])
@pytest.mark.parametrize("penalty", [1e-3, 1.0, 100.0])
def test_ridge_equals_scikit_learn(num_rows: int, dim: int, out: int, penalty: float) -> None:
    base, tuned, _ = make(num_rows, dim, out)
    found = fit_ridge(base, tuned, [penalty], held_out_share=0)
    expected = Ridge(alpha=penalty, solver="svd").fit(base.astype(float), tuned.astype(float))
    np.testing.assert_allclose(found.weight, expected.coef_, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.bias, expected.intercept_, rtol=1e-4, atol=1e-5)
    assert found.weight.dtype == found.bias.dtype == np.float32
    assert np.isnan(found.held_out_error)
    np.testing.assert_allclose(apply(found, base), expected.predict(base), rtol=1e-4, atol=1e-4)


def test_the_penalty_is_the_best_on_the_held_out_rows() -> None:
    base, tuned, _ = make(30, 20, noise=3.0)
    path = [1e-4, 1.0, 10.0, 30.0, 1e5]
    held = np.random.default_rng(3).permutation(30)[:6]
    kept = np.setdiff1d(np.arange(30), held)
    errors = [((Ridge(alpha=p).fit(base[kept], tuned[kept]).predict(base[held]) - tuned[held]) ** 2).mean() for p in path]
    found = fit_ridge(base, tuned, path, held_out_share=0.2, seed=3)
    assert 0 < np.argmin(errors) < len(path) - 1
    assert found.penalty == path[int(np.argmin(errors))]
    assert found.held_out_error == pytest.approx(min(errors), rel=1e-4)
    np.testing.assert_array_equal(found.weight, fit_ridge(base, tuned, [found.penalty], seed=9).weight)


def test_ties_go_to_the_larger_penalty() -> None:
    base = np.ones((10, 3), np.float32)  # nothing varies, so all penalties give the same map
    assert fit_ridge(base, base, [1.0, 5.0, 2.0]).penalty == 5.0


def descend(base: np.ndarray, tuned: np.ndarray, rank: int, penalty: float, num_starts: int) -> tuple[float, np.ndarray]:
    """The least |Y - X W|^2 + penalty |W|^2, rows centred, of a product W (in, out) of two factors, and W: L-BFGS from random starts."""
    rows, targets = (array.astype(float) - array.mean(0, dtype=float) for array in (base, tuned))
    dim, out = rows.shape[1], targets.shape[1]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        first, second = flat[: dim * rank].reshape(dim, rank), flat[dim * rank :].reshape(rank, out)
        weight = first @ second
        rest = rows @ weight - targets
        slope = 2 * (rows.T @ rest + penalty * weight)
        return (rest**2).sum() + penalty * (weight**2).sum(), np.concatenate([(slope @ second.T).ravel(), (first.T @ slope).ravel()])

    rng = np.random.default_rng(5)
    tries = [
        minimize(objective, rng.normal(size=rank * (dim + out)), jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-15})
        for _ in range(num_starts)
    ]
    best = min(tries, key=lambda found: found.fun)
    return best.fun, best.x[: dim * rank].reshape(dim, rank) @ best.x[dim * rank :].reshape(rank, out)


@pytest.mark.parametrize(("num_rows", "dim", "out", "rank"), [(60, 5, 5, 1), (60, 5, 5, 3), (60, 6, 4, 2), (8, 10, 7, 2)])
@pytest.mark.parametrize("penalty", [0.1, 30.0])
def test_a_bottleneck_is_the_best_of_its_rank(num_rows: int, dim: int, out: int, rank: int, penalty: float) -> None:
    base, tuned, _ = make(num_rows, dim, out, noise=1.0)
    base *= np.linspace(0.2, 2, dim).astype(np.float32)  # else the cut of the weight itself would be as good
    found = fit_ridge(base, tuned, [penalty], rank=rank, held_out_share=0)
    least, weight = descend(base, tuned, rank, penalty, 5)
    rest = apply(found, base).astype(float) - tuned
    assert (rest**2).sum() + penalty * (found.weight.astype(float) ** 2).sum() == pytest.approx(least, rel=1e-5)
    np.testing.assert_allclose(found.weight, weight.T, atol=2e-3)
    np.testing.assert_allclose(rest.mean(0), 0, atol=1e-5)  # as the best bias leaves it
    assert [layer.shape for layer in found.layers] == [(rank, dim), (out, rank)]
    left, singular, right = np.linalg.svd(fit_ridge(base, tuned, [penalty], held_out_share=0).weight.astype(float), full_matrices=False)
    cut = (left[:, :rank] * singular[:rank]) @ right[:rank]
    centred = [array.astype(float) - array.mean(0, dtype=float) for array in (base, tuned)]
    assert ((centred[0] @ cut.T - centred[1]) ** 2).sum() + penalty * (cut**2).sum() > least * (1 + 1e-5)


@pytest.mark.parametrize("rank", [5, 6, 100])
def test_a_rank_that_a_map_has_anyway_restricts_nothing(rank: int) -> None:
    base, tuned, _ = make(60, 5, 8)
    full, found = fit_ridge(base, tuned, [1.0]), fit_ridge(base, tuned, [1.0], rank=rank)
    np.testing.assert_array_equal(found.weight, full.weight)
    assert found.held_out_error == full.held_out_error
    np.testing.assert_array_equal(fit_sgd(base, tuned, Sgd(num_epochs=1), rank=rank).weight, fit_sgd(base, tuned, Sgd(num_epochs=1)).weight)


def test_a_bottleneck_is_judged_as_such_on_the_held_out_rows() -> None:
    base, tuned, _ = make(40, 12, noise=3.0)
    path, held = [0.1, 10.0, 1000.0], np.random.default_rng(3).permutation(40)[:8]
    kept = np.setdiff1d(np.arange(40), held)
    maps = [fit_ridge(base[kept], tuned[kept], [penalty], rank=2, held_out_share=0) for penalty in path]
    errors = [((apply(one, base[held]) - tuned[held]) ** 2).mean() for one in maps]
    found = fit_ridge(base, tuned, path, rank=2, held_out_share=0.2, seed=3)
    assert found.penalty == path[int(np.argmin(errors))]
    assert found.held_out_error == pytest.approx(min(errors), rel=1e-4)
    assert found.held_out_error != fit_ridge(base, tuned, path, held_out_share=0.2, seed=3).held_out_error


def test_fewer_rows_than_the_rank_are_enough() -> None:
    base, tuned, _ = make(4, 20, 20)
    full, found = (fit_ridge(base, tuned, [1.0], rank=rank, held_out_share=0) for rank in (None, 8))
    np.testing.assert_allclose(found.weight, full.weight, atol=1e-5)


def test_sgd_trains_both_layers_of_a_bottleneck() -> None:
    base, tuned, _ = make(300, 6, 5, noise=0.3)
    found = fit_sgd(base, tuned, Sgd(learning_rate=0.1, num_epochs=100, weight_decay=0.0, max_norm=1e9), rank=2, seed=1)
    closed = fit_ridge(base, tuned, [1e-6], rank=2)
    assert [layer.shape for layer in found.layers] == [(2, 6), (5, 2)]
    np.testing.assert_allclose(found.weight, closed.weight, atol=0.05)
    errors = [((apply(one, base) - tuned) ** 2).mean() for one in (found, closed)]
    assert errors[1] <= errors[0] < 1.01 * errors[1]
    found = fit_sgd(base, tuned, Sgd(num_epochs=1), rank=2, held_out_share=0.1, seed=1)
    kept = np.setdiff1d(np.arange(300), held := np.random.default_rng(1).permutation(300)[:30])
    alone = fit_sgd(base[kept], tuned[kept], Sgd(num_epochs=1), rank=2, seed=1)
    assert found.held_out_error == pytest.approx(((apply(alone, base[held]) - tuned[held]) ** 2).mean(), rel=1e-4)


def test_sgd_takes_the_steps_of_two_linear_layers() -> None:
    base, tuned, _ = make(40, 5, 4)
    start = fit_sgd(base, tuned, Sgd(learning_rate=1e-30, num_epochs=1), rank=3, seed=7)
    model = torch.nn.Sequential(torch.nn.Linear(5, 3, bias=False), torch.nn.Linear(3, 4))
    arrays = dict(zip(("0.weight", "1.weight", "1.bias"), (*start.layers, start.bias), strict=True))
    model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 5)
    for _ in range(5):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(torch.from_numpy(base)), torch.from_numpy(tuned)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    found = fit_sgd(base, tuned, Sgd(learning_rate=1e-2, num_epochs=5, batch_size=40, weight_decay=0.1), rank=3, seed=7)
    for array, parameter in zip((*found.layers, found.bias), model.parameters(), strict=True):
        np.testing.assert_allclose(array, parameter.detach().numpy(), atol=1e-6)
    assert 0.5 * 5**-0.5 < abs(start.layers[0]).max() <= 5**-0.5 < abs(start.layers[1]).max() <= 3**-0.5


def test_sgd_comes_near_to_the_closed_form() -> None:
    base, tuned, weight = make(400, 4, 3, noise=0.01)
    found = fit_sgd(base, tuned, Sgd(learning_rate=0.1, num_epochs=40, weight_decay=0.0, max_norm=1e9), held_out_share=0.1, seed=1)
    closed = fit_ridge(base, tuned, [1e-6])
    np.testing.assert_allclose(found.weight, closed.weight, atol=0.01)
    np.testing.assert_allclose(found.weight, weight, atol=0.02)
    assert found.held_out_error == pytest.approx(closed.held_out_error, rel=0.5)
    assert found.held_out_error < 1e-3


def test_sgd_takes_the_steps_of_adamw_with_linear_decay() -> None:
    base, tuned, _ = make(40, 5, 4)
    start = fit_sgd(base, tuned, Sgd(learning_rate=1e-30, num_epochs=1), seed=7)
    linear = torch.nn.Linear(5, 4)
    linear.load_state_dict({"weight": torch.from_numpy(start.layers[0]), "bias": torch.from_numpy(start.bias)})
    optimizer = torch.optim.AdamW(linear.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 6)
    for _ in range(6):  # the whole data in every batch: the order does not matter
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(linear(torch.from_numpy(base)), torch.from_numpy(tuned)).backward()
        torch.nn.utils.clip_grad_norm_(linear.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    found = fit_sgd(base, tuned, Sgd(num_epochs=6, batch_size=40), seed=7)
    np.testing.assert_allclose(found.weight, linear.weight.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(found.bias, linear.bias.detach().numpy(), atol=1e-6)
    assert abs(start.weight).max() <= 5**-0.5


def test_sgd_is_seeded_and_leaves_the_global_state_alone() -> None:
    base, tuned, _ = make()
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first, again, other = (fit_sgd(base, tuned, Sgd(num_epochs=1), seed=seed).weight for seed in (1, 1, 2))
    assert (torch.random.get_rng_state() == before).all()
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_bad_embeddings_are_named() -> None:
    base, tuned, _ = make()
    broken = tuned.copy()
    broken[7, 2] = np.nan
    with pytest.raises(InputError, match=r"row 7: its tuned embedding is not finite"):
        fit_ridge(base, broken, [1.0])
    with pytest.raises(InputError, match=r"row 7: its base embedding is not finite"):
        fit_sgd(broken, tuned)
    with pytest.raises(InputError, match=r"60 rows of the base model, 59 of the tuned"):
        fit_ridge(base, tuned[:59], [1.0])
    for penalties in ([], [1.0, 0.0], [float("nan")]):
        with pytest.raises(InputError, match="penalties="):
            fit_ridge(base, tuned, penalties)
    with pytest.raises(InputError, match="rows must be held out"):
        fit_ridge(base, tuned, [1.0, 2.0], held_out_share=0)
    with pytest.raises(InputError, match=r"held_out_share=1"):
        fit_ridge(base, tuned, [1.0], held_out_share=1)
    with pytest.raises(InputError, match=r"rows: 2, of which 1 held out"):
        fit_ridge(base[:2], tuned[:2], [1.0])
    for fit in (lambda: fit_ridge(base, tuned, [1.0], rank=0), lambda: fit_sgd(base, tuned, rank=-2)):
        with pytest.raises(InputError, match=r"rank=(0|-2): must be 1 or more"):
            fit()
    with pytest.raises(InputError, match="epochs and batch size"):
        fit_sgd(base, tuned, Sgd(num_epochs=0))
    with pytest.raises(InputError, match="4 dimensions, the map takes 5"):
        apply(fit_ridge(base, tuned, [1.0]), base[:, :4])
