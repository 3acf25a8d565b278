"""Judging estimates: true losses are those of models that were fine-tuned, and the measures are theirs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats
from task_lab import TaskLab, task_config

from dsel.artifact import Store
from dsel.build import build
from dsel.error import InputError
from dsel.functional.unit_outputs import logistic_losses, unit_outputs
from dsel.phase.judge import Judge
from dsel.pipeline import Run


def judge(tasks: TaskLab, name: str, *overrides: str) -> Judge:
    config = task_config(
        tasks.store.root.parent,
        f"estimator={name}",
        "phases.judge.num_subsets=4",
        "phases.judge.num_estimated=6",
        "phases.judge.num_repeated=0",
        *overrides,
    )
    built: Judge = build(config["phases"]["judge"])
    return built


def run(phase: Judge, tasks: TaskLab, folder: Path) -> tuple[dict[str, float], pa.Table, dict[str, Any]]:
    folder.mkdir()
    cost = dict(phase.run(tasks.state, replace(tasks.world, name="judge"), folder))
    return json.loads((folder / "metrics.json").read_text()), pq.read_table(folder / "judged.parquet"), cost


def test_the_truth_is_that_of_training(tasks: TaskLab, tmp_path: Path) -> None:
    """Retraining as the estimate: it is the truth to the last bit."""
    metrics, table, _ = run(judge(tasks, "retrain", "phases.judge.num_estimated=0"), tasks, tmp_path / "a")
    np.testing.assert_array_equal(table["estimate"], table["truth"])
    assert metrics["relative_error"] == 0
    assert [metrics["spearman"], metrics["pearson"]] == pytest.approx([1.0, 1.0])
    assert metrics["lds"] == pytest.approx(1.0)
    assert "speedup" not in metrics


def test_measures_are_those_of_the_rows(tasks: TaskLab, tmp_path: Path) -> None:
    metrics, table, cost = run(judge(tasks, "gradex", "estimator.dim=32"), tasks, tmp_path / "a")
    estimate, truth, test = (table[name].to_numpy() for name in ("estimate", "truth", "truth_test"))
    assert len({tuple(subset) for subset in table["tasks"].to_pylist()}) == 4
    assert metrics["relative_error"] == pytest.approx(np.mean(np.abs(estimate - truth) / truth))
    assert metrics["spread"] == pytest.approx(np.mean(np.abs(truth.mean() - truth) / truth))
    assert metrics["spearman"] == pytest.approx(scipy.stats.spearmanr(estimate, truth).statistic)
    assert metrics["spearman_test"] == pytest.approx(scipy.stats.spearmanr(estimate, test).statistic)
    assert metrics["speedup"] > 0
    assert metrics["speedup_flops"] > 1  # a training of three steps still takes more than an estimate
    assert cost["trained_subsets"] == 4


def test_all_estimators_are_judged_by_the_same_trainings(tasks: TaskLab, tmp_path: Path) -> None:
    tables = [run(judge(tasks, name, "estimator.dim=32"), tasks, tmp_path / name)[1] for name in ("gradex", "gradient_cosine")]
    assert tables[0]["tasks"] == tables[1]["tasks"]
    assert tables[0]["truth"] == tables[1]["truth"]
    assert tables[0]["estimate"] != tables[1]["estimate"]


def test_an_order_has_no_relative_error(tasks: TaskLab, tmp_path: Path) -> None:
    metrics, _, _ = run(judge(tasks, "gradient_cosine", "estimator.dim=32"), tasks, tmp_path / "a")
    assert "relative_error" not in metrics
    assert "lds" not in metrics
    assert -1 <= metrics["spearman"] <= 1


def test_fine_tuning_is_seeded_and_shared(tasks: TaskLab) -> None:
    context = tasks.context()
    some = tasks.source.take(np.arange(8), "subset")
    one, two = context.fine_tune(some, tasks.target), context.fine_tune(some, tasks.target)
    np.testing.assert_array_equal(one.losses, two.losses)
    assert one.work == two.work  # found on disk: what it took when it was done
    assert one.work.seconds > 0
    assert one.work.flops > 0
    assert tasks.world.model is not None
    before = unit_outputs(context.load(None), context.objective, tasks.target.table, tasks.world.model.context)
    assert one.losses.shape == (len(tasks.target),)
    assert not np.allclose(one.losses, logistic_losses(before))


def test_seconds_count_what_was_found(tmp_path: Path) -> None:
    """A second run that finds all features and trainings on disk states their price all the same."""
    config = task_config(
        tmp_path, "phases.judge.num_subsets=3", "phases.judge.num_estimated=3", "phases.judge.num_repeated=1", "estimator.dim=16"
    )
    first = Run(config).fold(Store(tmp_path / "artifacts"))
    for path in (tmp_path / "artifacts").glob("judge-*"):
        (path / "done.json").unlink()
    second = Run(config).fold(Store(tmp_path / "artifacts"))
    assert not second.cost["judge"]["reused"]
    assert second.cost["judge"]["seconds"] > 0.5 * first.cost["judge"]["seconds"]
    assert second.metrics["spearman"] == first.metrics["spearman"]


def test_a_repeat_differs_by_its_order(tasks: TaskLab, tmp_path: Path) -> None:
    metrics, table, _ = run(judge(tasks, "gradex", "phases.judge.num_repeated=2"), tasks, tmp_path / "a")
    names, numbers = tasks.source.tasks()
    again = []
    for subset in table["tasks"].to_pylist()[:2]:
        pool = tasks.source.take(np.flatnonzero(np.isin(np.array(names)[numbers], subset)), "subset")
        again.append(tasks.context().fine_tune(pool, tasks.target, 1).losses.mean())
    truth = table["truth"].to_numpy()[:2]
    assert metrics["repeat_error"] == pytest.approx(np.mean(np.abs(again - truth) / truth))
    assert metrics["repeat_error"] > 0


@pytest.mark.parametrize(("key", "value"), [("num_repeated", 5), ("num_subsets", 2), ("share", 0.0), ("share", 1.0)])
def test_mistakes_name_their_key(tasks: TaskLab, key: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{key}={value}"):
        replace(judge(tasks, "gradex"), **{key: value})
