from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.linear_model import Ridge

from dsel.error import InputError
from dsel.functional.space_map import Sgd, SpaceMap, apply, fit_ridge, fit_sgd, load, save

CARD = {"base_model_name": "someone/model", "task_id": "größe", "num_examples": 60, "text_column": ["a", "b"]}


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
    linear.load_state_dict({"weight": torch.from_numpy(start.weight), "bias": torch.from_numpy(start.bias)})
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


def test_files_keep_the_map_and_the_card(tmp_path: Path) -> None:
    found = fit_ridge(*make()[:2], [0.1, 1.0])
    save(tmp_path / "map", found, CARD)
    again, card = load(tmp_path / "map")
    np.testing.assert_array_equal(again.weight, found.weight)
    np.testing.assert_array_equal(again.bias, found.bias)
    assert (again.penalty, again.held_out_error) == (found.penalty, found.held_out_error)
    assert card.items() >= {**CARD, "esm_architecture": "linear", "esm_embedding_dim": 5}.items()
    save(tmp_path / "bare", SpaceMap(found.weight, found.bias), CARD)
    assert np.isnan(load(tmp_path / "bare")[0].held_out_error)


def test_the_names_of_the_first_version_are_read(tmp_path: Path) -> None:
    weight = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    save_file({"sequential.0.weight": weight, "sequential.0.bias": torch.ones(3)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"version": "0.1.0", "esm_architecture": "linear"}), encoding="utf-8")
    np.testing.assert_array_equal(load(tmp_path)[0].weight, weight.numpy())


def test_the_released_package_reads_ours_and_we_read_its(tmp_path: Path) -> None:
    released = pytest.importorskip("hfselect", reason="hf-dataset-selector is not installed", exc_type=ImportError)
    base, tuned, _ = make()
    found = fit_ridge(base, tuned, [0.1])
    save(tmp_path / "ours", found, CARD)
    theirs = released.ESM.from_pretrained(str(tmp_path / "ours"))
    np.testing.assert_allclose(theirs(torch.from_numpy(base)).detach().numpy(), apply(found, base), atol=1e-5)
    assert theirs.config["task_id"] == CARD["task_id"]
    made = released.ESM("linear", 5, released.ESMConfig(base_model_name="m", task_id="t", esm_architecture="linear", esm_embedding_dim=5))
    made.save_pretrained(str(tmp_path / "theirs"))
    read, card = load(tmp_path / "theirs")
    np.testing.assert_array_equal(read.weight, made.model.weight.detach().numpy())
    np.testing.assert_array_equal(read.bias, made.model.bias.detach().numpy())
    assert card["task_id"] == "t"


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
    with pytest.raises(InputError, match="epochs and batch size"):
        fit_sgd(base, tuned, Sgd(num_epochs=0))
    with pytest.raises(InputError, match="4 dimensions, the map takes 5"):
        apply(fit_ridge(base, tuned, [1.0]), base[:, :4])


def test_bad_files_are_named(tmp_path: Path) -> None:
    found = fit_ridge(*make()[:2], [1.0])
    with pytest.raises(InputError, match=r"map \(8, 5\)"):
        save(tmp_path, fit_ridge(*make(out=8)[:2], [1.0]), CARD)
    with pytest.raises(InputError, match=r"card: task_id=None"):
        save(tmp_path, found, {"base_model_name": "m"})
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(InputError, match=r"model\.safetensors: there is no such file; pytorch_model.bin is a pickle"):
        load(tmp_path)
    save(tmp_path, found, CARD)
    (tmp_path / "config.json").write_text('{"esm_architecture": {"type": "mlp"}}', encoding="utf-8")
    with pytest.raises(InputError, match="only linear maps"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    for tensors, message in [
        ({"weight": torch.ones(2, 2)}, r"holds \['weight'\]"),
        ({"model.weight": torch.ones(2, 2), "model.bias": torch.ones(3)}, r"weight \(2, 2\), bias \(3,\)"),
        ({"model.weight": torch.full((2, 2), torch.nan), "model.bias": torch.ones(2)}, "not finite"),
    ]:
        save_file(tensors, tmp_path / "model.safetensors")
        with pytest.raises(InputError, match=message):
            load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path)
