"""Features as artifacts: what they hang on, how they go on, and what is refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from task_lab import TaskLab

from dsel import features
from dsel.artifact import Store
from dsel.error import InputError
from dsel.features import make_features
from dsel.functional.log_odds import log_odds
from dsel.functional.projection import Projection
from dsel.pool import Pool

PROJECTION = Projection("rademacher", 16, 0)


def make(
    tasks: TaskLab, pools: list[Pool], store: Store, projection: Projection = PROJECTION, checkpoint: str = "meta-a", **more: Any
) -> Any:
    context = tasks.context()
    load = more.get("load", lambda: context.load(None).requires_grad_(True))
    return make_features(pools, load, context.objective, more.get("context", 24), projection, checkpoint, store)


def test_they_are_projected_gradients_of_the_log_odds(tasks: TaskLab, tmp_path: Path) -> None:
    pool = tasks.source.take(np.arange(0, 40, 7))
    found = make(tasks, [pool], Store(tmp_path))
    context = tasks.context()
    model = context.load(None).requires_grad_(True)
    parameters = list(model.parameters())
    for unit in range(len(pool)):
        ((_, batch),) = context.objective.rows(pool.take(np.array([unit])).table, 24, 2048)
        f = log_odds(context.objective.token_losses(model, batch), context.objective.predicted(batch)).sum()
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(f, parameters)])
        expected = torch.zeros(1, 16)
        PROJECTION.add(expected, gradient[None], 0)
        assert found.outputs[unit] == pytest.approx(f.item(), rel=1e-4, abs=1e-5)
        np.testing.assert_allclose(found.values[unit], expected[0].numpy(), rtol=1e-3, atol=1e-4)


def test_another_target_computes_only_its_own(tasks: TaskLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, pools = Store(tmp_path), list(tasks.source.by_task().values())
    first = make(tasks, pools, store)
    written: list[str] = []
    write = features._write
    monkeypatch.setattr(features, "_write", lambda *a: written.append(a[4].name) or write(*a))
    again = make(tasks, [*pools, tasks.target], store)
    assert written == ["target"]
    np.testing.assert_array_equal(again.values[: len(first.values)], first.values)
    assert again.work.seconds > first.work.seconds


def test_an_interrupted_pass_goes_on(tasks: TaskLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, pools, written, write = Store(tmp_path), list(tasks.source.by_task().values()), [], features._write

    def stop_at_the_third(*arguments: Any) -> Any:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(arguments[4].name)
        return write(*arguments)

    monkeypatch.setattr(features, "_write", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        make(tasks, pools, store)
    monkeypatch.setattr(features, "_write", lambda *a: written.append(a[4].name) or write(*a))
    found = make(tasks, pools, store)
    assert written == [pool.name for pool in pools]  # none twice
    np.testing.assert_array_equal(found.values, make(tasks, pools, Store(tmp_path / "whole")).values)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("projection", {"projection": Projection("rademacher", 16, 1)}),
        ("checkpoint", {"checkpoint": "meta-b"}),
        ("context", {"context": 23}),
    ],
)
def test_features_of_something_else_are_others(tasks: TaskLab, tmp_path: Path, field: str, change: dict[str, Any]) -> None:
    """By their fingerprint; and a folder that was moved in their place is refused by the field that differs."""
    store, pool = Store(tmp_path), tasks.source.take(np.arange(5))
    make(tasks, [pool], store)
    (mine,) = tmp_path.glob("features-*")
    make(tasks, [pool], store, **change)
    (other,) = set(tmp_path.glob("features-*")) - {mine}
    for path in other.iterdir():
        path.unlink()
    for path in mine.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=f"features of another {field}"):
        make(tasks, [pool], store, **change)


def test_a_gradient_that_is_not_finite_names_its_unit(tasks: TaskLab, tmp_path: Path) -> None:
    pool = tasks.source.take(np.arange(10, 14))
    model = tasks.context().load(None).requires_grad_(True)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    unit = pool.table["id"][0].as_py()
    with pytest.raises(InputError, match=rf"the gradient of task .*, id '{unit}' is not finite \(4 such units"):
        make(tasks, [pool], Store(tmp_path), load=lambda: model)
    assert not list(tmp_path.glob("features-*/done.json"))


@pytest.mark.parametrize(("lost", "said"), [("all", "is missing"), ("rows", "features of 3 units, not of 5")])
def test_lost_features_are_an_error(tasks: TaskLab, tmp_path: Path, lost: str, said: str) -> None:
    """Trap: the released code passes over files that are not there."""
    make(tasks, [tasks.source.take(np.arange(5))], Store(tmp_path))
    (path,) = tmp_path.glob("features-*/*.safetensors")
    arrays = load_file(path)
    path.unlink()
    if lost == "rows":
        save_file({name: values[:3] for name, values in arrays.items()}, path)
    with pytest.raises(InputError, match=said):
        make(tasks, [tasks.source.take(np.arange(5))], Store(tmp_path))


def test_cut_units_are_counted(tasks: TaskLab, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dsel"):
        make(tasks, [tasks.target], Store(tmp_path), context=5)
    assert f"of {len(tasks.target)} units of target are longer than model.context=5" in caplog.text


def test_they_say_what_they_are_of(tasks: TaskLab, tmp_path: Path) -> None:
    pool = tasks.source.take(np.arange(5))
    make(tasks, [pool], Store(tmp_path))
    (record,) = (json.loads(path.read_text()) for path in tmp_path.glob("features-*/done.json"))
    assert record["checkpoint"] == "meta-a"
    assert record["pool"] == pool.fingerprint
    assert record["units"] == 5
    assert record["objective"] == "Instruction"
    assert record["flops"] > 0
