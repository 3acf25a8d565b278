"""Reading a sweep, statistics over seeds, pairing, crossings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_up_sweep import ARMS, BUDGETS, SEEDS, losses, write_cell, write_sweep

from dsel.error import InputError
from dsel.report.aggregate import AFTER, BEFORE, add_differences, aggregate, compare_with, count_swaps, headline
from dsel.report.curves import cross, find_crossings, mean_curves, read_compositions, read_curves
from dsel.report.results import read_sweep


def test_frame_has_a_row_for_each_cell(sweep_folder: Path) -> None:
    sweep = read_sweep(sweep_folder)
    assert len(sweep.frame) == len(ARMS) * len(BUDGETS) * len(SEEDS)
    assert sweep.problems == []
    assert sweep.frame["series"].unique(maintain_order=True).to_list() == ["none", "random", "cds", "domain_classifier"]
    assert sweep.frame["x"].unique(maintain_order=True).to_list() == list(BUDGETS)
    assert set(sweep.frame.filter(pl.col("group") == "cds · 3%")["seed"]) == set(SEEDS)


def test_aggregation_equals_numpy(sweep_folder: Path) -> None:
    means = aggregate(read_sweep(sweep_folder).frame)
    for arm in ARMS:
        for budget in BUDGETS:
            values = [losses(arm, budget, seed)["target_loss_after_ft"] for seed in SEEDS]
            row = means.filter((pl.col("label") == arm) & (pl.col("x") == budget) & (pl.col("metric") == AFTER)).row(0, named=True)
            assert row["n"] == len(SEEDS)
            np.testing.assert_allclose([row["mean"], row["sd"]], [np.mean(values), np.std(values, ddof=1)])


def test_differences_are_paired_by_seed_and_budget(sweep_folder: Path) -> None:
    sweep = read_sweep(sweep_folder)
    found = compare_with(sweep, BEFORE)
    gaps = [losses("cds", 0.3, seed)["target_loss_before_ft"] - losses("random", 0.3, seed)["target_loss_before_ft"] for seed in SEEDS]
    gap = found["cds · 30%"]
    np.testing.assert_allclose([gap.mean, gap.sd], [np.mean(gaps), np.std(gaps, ddof=1)])
    assert (gap.wins, gap.n) == (3, 3)
    assert not any(group.startswith("random") for group in found)
    frame = add_differences(sweep).filter(pl.col("group") == "cds · 30%")
    np.testing.assert_allclose(frame["delta.target_loss_before_ft"].to_numpy(), gaps)


def test_no_difference_from_random_at_another_budget(tmp_path: Path) -> None:
    for seed in SEEDS:
        write_cell(tmp_path / "sweep", "random", 0.03, seed)
        write_cell(tmp_path / "sweep", "cds", 0.3, seed)
    assert compare_with(read_sweep(tmp_path / "sweep"), AFTER) == {}


@pytest.mark.parametrize("together", [True, False])
def test_what_goes_with_x_makes_no_line_of_its_own(tmp_path: Path, together: bool) -> None:
    folder = write_sweep(tmp_path / "sweep")
    for path in folder.rglob("result.json"):
        record = json.loads(path.read_text())
        budget, seed = record["overrides"]["budget.fraction"], record["seed"]
        record["overrides"]["steps.continue"] = round(1000 * budget) + (0 if together else seed)
        path.write_text(json.dumps(record))
    series = read_sweep(folder).frame["series"].unique().to_list()
    assert (sorted(series) == sorted(ARMS)) == together


def test_broken_and_foreign_results_are_named(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "sweep")
    whole = (folder / "arm=cds,budget.fraction=0.3" / "seed=0" / "result.json").read_text()
    for name, text in (("broken", whole[:50]), ("foreign", '{"accuracy": 1}'), ("list", "[]"), ("twice", whole)):
        (folder / "z" / name).mkdir(parents=True)
        (folder / "z" / name / "result.json").write_text(text)
    (folder / "z" / "binary").mkdir()
    (folder / "z" / "binary" / "result.json").write_bytes(b"\xff\xfe\x00")
    sweep = read_sweep(folder)
    assert len(sweep.frame) == len(ARMS) * len(BUDGETS) * len(SEEDS)
    assert [problem.split(":")[0] for problem in sweep.problems] == [
        "z/binary/result.json", "z/broken/result.json", "z/foreign/result.json", "z/list/result.json", "z/twice",
    ]  # fmt: skip


def test_values_that_are_not_finite_are_named(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "sweep")
    path = folder / "arm=cds,budget.fraction=0.3" / "seed=1" / "result.json"
    record = json.loads(path.read_text())
    record["metrics"]["target_loss_after_ft"] = float("nan")
    path.write_text(json.dumps(record))
    sweep = read_sweep(folder)
    assert sweep.problems == [f"{path.parent.relative_to(folder)}: metrics.target_loss_after_ft is nan; that value is left out"]
    row = aggregate(sweep.frame).filter((pl.col("group") == "cds · 30%") & (pl.col("metric") == AFTER))
    assert row["n"].to_list() == [2]


@pytest.mark.parametrize("content", [None, "", "{"])
def test_a_folder_without_results_says_what_to_do(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "result.json").write_text(content)
    with pytest.raises(InputError, match="run the sweep first"):
        read_sweep(tmp_path)
    with pytest.raises(InputError, match="no folder"):
        read_sweep(tmp_path / "absent")


def test_several_experiments_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    write_cell(folder, "cds", 0.3, 0)
    write_cell(folder, "random", 0.3, 0)
    path = next(folder.glob("arm=cds*/*/result.json"))
    path.write_text(path.read_text().replace("selection_size", "other"))
    with pytest.raises(InputError, match="other, selection_size"):
        read_sweep(folder)


def test_crossings_of_lines() -> None:
    steps = np.arange(5.0)
    assert cross(steps, np.array([0.0, 1, 2, 3, 4]), np.array([1.5] * 5)) == [1.5]
    assert cross(steps, np.array([0.0, 1, 0, 1, 0]), np.array([1.0] * 5)) == []  # touches
    assert cross(steps, np.array([1.0, 1, 0, 1, 2]), np.array([1.0] * 5)) == [3.0]  # equal at first, then below, then above


def test_crossings_of_groups(sweep_folder: Path) -> None:
    problems: list[str] = []
    curves = read_curves(read_sweep(sweep_folder), "continue", problems)
    assert problems == []
    (crossing,) = find_crossings(curves, "cds · 3%", "cds · 30%")
    assert (crossing.first, crossing.second, crossing.seeds, crossing.n) == ("cds · 30%", "cds · 3%", 3, 3)
    assert 0 < crossing.step < 400
    assert crossing.gap > 0
    assert find_crossings(curves, "cds · 3%", "none · 3%") == []


def test_means_use_only_steps_that_all_seeds_have(sweep_folder: Path) -> None:
    curves = read_curves(read_sweep(sweep_folder), "continue", [])
    kept = curves.filter(~((pl.col("group") == "cds · 3%") & (pl.col("seed") == 1) & (pl.col("step") > 100)))
    assert mean_curves(kept).filter(pl.col("group") == "cds · 3%")["step"].max() == 100


def test_broken_artifacts_are_named(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "sweep")
    (tmp_path / "artifacts" / "continue-cds-0.3-0" / "curve.parquet").write_bytes(b"PAR1")
    (tmp_path / "artifacts" / "select-cds-0.3-0" / "composition.json").write_text("{")
    sweep, problems = read_sweep(folder), []
    read_curves(sweep, "continue", problems)
    read_compositions(sweep, problems)
    assert [problem.split("/")[0] for problem in problems] == ["arm=cds,budget.fraction=0.3"] * 2


def test_headline_is_computed(sweep_folder: Path) -> None:
    sweep = read_sweep(sweep_folder)
    lines = headline(sweep)
    mean = np.mean([losses("domain_classifier", 0.3, seed)["target_loss_after_ft"] for seed in SEEDS])
    assert lines[0].startswith("After fine-tuning, domain_classifier · 30% has the lowest target loss")
    assert f"{mean:.3f}" in lines[0]
    assert "cds · 30% leads" in lines[-1]
    assert count_swaps(sweep.frame)[1] == 28
