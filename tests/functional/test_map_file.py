from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dsel.error import InputError
from dsel.functional.map_file import load, save
from dsel.functional.space_map import SpaceMap, apply, fit_ridge

CARD = {"base_model_name": "someone/model", "task_id": "größe", "num_examples": 60, "text_column": ["a", "b"]}


def make(num_rows: int = 60, dim: int = 5, out: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Base embeddings and tuned ones."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(num_rows, dim)).astype(np.float32)
    return base, (base @ rng.normal(size=(dim, out)) + 0.1 * rng.normal(size=(num_rows, out))).astype(np.float32)


def test_files_keep_the_map_and_the_card(tmp_path: Path) -> None:
    found = fit_ridge(*make(), [0.1, 1.0])
    save(tmp_path / "map", found, CARD)
    again, card = load(tmp_path / "map")
    np.testing.assert_array_equal(again.weight, found.weight)
    np.testing.assert_array_equal(again.bias, found.bias)
    assert (again.penalty, again.held_out_error) == (found.penalty, found.held_out_error)
    assert card.items() >= {**CARD, "esm_architecture": "linear", "esm_embedding_dim": 5}.items()
    save(tmp_path / "bare", SpaceMap(found.layers, found.bias), CARD)
    assert np.isnan(load(tmp_path / "bare")[0].held_out_error)


def test_files_of_a_bottleneck_hold_its_factors_only(tmp_path: Path) -> None:
    dim, rank = 40, 3
    found = fit_ridge(*make(dim=dim, out=dim), [1.0], rank=rank)
    save(tmp_path / "map", found, CARD)
    again, card = load(tmp_path / "map")
    for one, other in zip((*again.layers, again.bias), (*found.layers, found.bias), strict=True):
        np.testing.assert_array_equal(one, other)
    assert card.items() >= {**CARD, "esm_architecture": "bottleneck", "esm_embedding_dim": dim}.items()
    content = (tmp_path / "map" / "model.safetensors").read_bytes()
    assert len(content) - 8 - int.from_bytes(content[:8], "little") == 4 * (2 * rank * dim + dim)  # after the header's size and the header
    assert (again.penalty, again.held_out_error) == (found.penalty, found.held_out_error)


def test_files_are_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (fit_ridge(*make(), [penalty]) for penalty in (1.0, 100.0))
    save(tmp_path, first, CARD)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model.safetensors", "config.json"}
    before = {name: (tmp_path / name).read_bytes() for name in names}
    opened = {name: (tmp_path / name).open("rb") for name in names}
    save(tmp_path, second, CARD)
    for name, file in opened.items():  # who reads the old file reads on in it
        with file:
            assert file.read() == before[name] != (tmp_path / name).read_bytes()
    after = {name: (tmp_path / name).read_bytes() for name in names}

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save(tmp_path, first, CARD)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == after


def test_the_names_of_the_first_version_are_read(tmp_path: Path) -> None:
    weight = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    save_file({"sequential.0.weight": weight, "sequential.0.bias": torch.ones(3)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"version": "0.1.0", "esm_architecture": "linear"}), encoding="utf-8")
    np.testing.assert_array_equal(load(tmp_path)[0].weight, weight.numpy())


def test_the_released_package_reads_ours_and_we_read_its(tmp_path: Path) -> None:
    released = pytest.importorskip("hfselect", reason="hf-dataset-selector is not installed", exc_type=ImportError)
    base, tuned = make()
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


def test_bad_files_are_named(tmp_path: Path) -> None:
    found = fit_ridge(*make(), [1.0])
    with pytest.raises(InputError, match=r"map \(8, 5\)"):
        save(tmp_path, fit_ridge(*make(out=8), [1.0]), CARD)
    with pytest.raises(InputError, match=r"card: task_id=None"):
        save(tmp_path, found, {"base_model_name": "m"})
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(InputError, match=r"model\.safetensors: there is no such file; pytorch_model.bin is a pickle"):
        load(tmp_path)
    save(tmp_path, found, CARD)
    (tmp_path / "config.json").write_text('{"esm_architecture": {"type": "mlp"}}', encoding="utf-8")
    with pytest.raises(InputError, match="only linear and bottleneck maps"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    for tensors, message in [
        ({"weight": torch.ones(2, 2)}, r"holds \['weight'\]"),
        ({"model.weight": torch.ones(2, 2), "model.bias": torch.ones(3)}, r"model\.weight \(2, 2\), model\.bias \(3,\); expected"),
        ({"model.weight": torch.full((2, 2), torch.nan), "model.bias": torch.ones(2)}, "not finite"),
    ]:
        save_file(tensors, tmp_path / "model.safetensors")
        with pytest.raises(InputError, match=message):
            load(tmp_path)
    (tmp_path / "config.json").write_text('{"esm_architecture": "bottleneck"}', encoding="utf-8")
    down, up, bias = torch.ones(2, 3), torch.ones(3, 2), torch.ones(3)
    for tensors, message in [
        (
            {"model.weight": torch.ones(2, 2), "model.bias": torch.ones(2)},
            "expected down.weight and up.weight and up.bias of a bottleneck map",
        ),
        ({"down.weight": torch.ones(3, 2), "up.weight": up, "up.bias": bias}, r"down\.weight \(3, 2\).*expected \(rank, dim\)"),
        ({"down.weight": down, "up.weight": up, "up.bias": torch.ones(2)}, r"up\.bias \(2,\); expected"),
        ({"down.weight": down * torch.inf, "up.weight": up, "up.bias": bias}, "not finite"),
    ]:
        save_file(tensors, tmp_path / "model.safetensors")
        with pytest.raises(InputError, match=message):
            load(tmp_path)
    (tmp_path / "config.json").write_text('{"penalty": "much"}', encoding="utf-8")
    with pytest.raises(InputError, match=r"config\.json: penalty='much'; must be a number"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match=r"config\.json: holds a list"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path)
