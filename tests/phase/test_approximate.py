"""How linear a model is, as a phase."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from task_lab import TaskLab, task_config

from dsel.build import build
from dsel.error import InputError
from dsel.functional.unit_outputs import unit_outputs
from dsel.phase.approximate import Approximate


def approximate(tasks: TaskLab, *overrides: str) -> Approximate:
    small = ["phases.approximate.num_directions=2", "phases.approximate.num_units=20", *overrides]
    built: Approximate = build(task_config(tasks.store.root.parent, *small, experiment="gradex_estimate")["phases"]["approximate"])
    return built


def run(phase: Approximate, tasks: TaskLab, folder: Path) -> tuple[dict[str, float], pl.DataFrame]:
    folder.mkdir()
    phase.run(tasks.state, replace(tasks.world, name="approximate"), folder)
    return json.loads((folder / "metrics.json").read_text()), pl.read_parquet(folder / "approximation.parquet")


@pytest.mark.parametrize("direction", ["tuned", "gaussian"])
def test_the_gradient_helps_near_the_model(tasks: TaskLab, tmp_path: Path, direction: str) -> None:
    options = [f"phases.approximate.direction={direction}", "phases.approximate.distances=[0.0005,0.001]"]
    metrics, frame = run(approximate(tasks, *options), tasks, tmp_path / "a")
    assert len(frame) == 4
    assert metrics["first_order_error_0.0005"] < 0.05 * metrics["zero_order_error_0.0005"]
    assert metrics["first_order_error_0.0005"] < metrics["first_order_error_0.001"]  # it is of a higher order
    assert ("tuned_distance" in metrics) == (direction == "tuned")
    medians = frame.group_by("distance").median().sort("distance")
    assert metrics["zero_order_error_0.001"] == medians["zero_order"][1]


def test_errors_are_those_of_a_moved_model(tasks: TaskLab, tmp_path: Path) -> None:
    """Without the gradient: outputs here and there, moved by hand along a random direction."""
    phase = approximate(
        tasks, "phases.approximate.direction=gaussian", "phases.approximate.distances=[0.05]", "phases.approximate.num_units=60"
    )
    _, frame = run(phase, tasks, tmp_path / "a")
    model, context = tasks.context().load(None).requires_grad_(True), tasks.context()
    here = unit_outputs(model, context.objective, tasks.source.table, 24)
    assert len(here) < 60  # all units
    direction, _ = phase._direction(0, model, tasks.source, tmp_path, replace(tasks.world, name="approximate"))
    length = np.sqrt(sum(float(value.double().square().sum()) for value in direction.values()))
    own = np.sqrt(sum(float(p.detach().double().square().sum()) for p in model.parameters()))
    for name, parameter in model.named_parameters():
        parameter.data.add_(direction[name], alpha=0.05 * own / length)
    there = unit_outputs(model, context.objective, tasks.source.table, 24)
    expected = np.mean(((there - here) / np.maximum(abs(here), abs(there))) ** 2)
    assert frame["zero_order"][0] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"direction": "up"}, "direction='up'"),
        ({"distances": []}, r"distances=\[\]"),
        ({"distances": [0.0]}, r"distances=\[0.0\]"),
        ({"num_directions": 0}, "num_directions=0"),
        ({"share": 0.0}, "share=0.0"),
    ],
)
def test_mistakes_name_their_key(tasks: TaskLab, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        replace(approximate(tasks), **changes)
