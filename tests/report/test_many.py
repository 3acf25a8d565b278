"""Results of many sweeps as one table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dsel.error import InputError
from dsel.report.aggregate import pm
from dsel.report.many import find_column, keep, make_table, query, read_many, select

LOSS = "target_loss_after_ft"


def write(folder: Path, label: str, seed: int, loss: float, **config: Any) -> None:
    folder.mkdir(parents=True)
    record = {
        "name": folder.parts[-3], "label": label, "seed": seed, "fingerprint": "f", "git_commit": None,
        "overrides": {"arm": label, **{key.replace("__", "."): value for key, value in config.items()}},
        "metrics": {LOSS: loss}, "cost": {"seconds": 2.0, "phases": {"pretrain": {"flops": 9e12}, "score": {"flops": 3.0}}},
        "config": {"budget": {"fraction": config.get("budget__fraction")}, "data": {"target": "networkx"}, "pipeline": ["a", "b"]},
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(record))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for seed in (0, 1):
        for fraction in (0.1, 0.5):
            write(tmp_path / "demo" / f"cds{fraction}" / f"{seed}", "cds", seed, 4.0 + seed + fraction, budget__fraction=fraction)
            write(tmp_path / "demo" / f"random{fraction}" / f"{seed}", "random", seed, 5.0 + seed, budget__fraction=fraction)
    write(tmp_path / "other" / "cds" / "0", "cds", 0, 1.0)
    return tmp_path


def texts(table: Any) -> list[list[str]]:
    return [[entry.text for entry in row] for row in table.rows]


def test_a_row_a_cell_with_everything_that_a_result_holds(runs: Path) -> None:
    frame = read_many([runs])
    assert len(frame) == 9
    assert set(frame["name"]) == {"demo", "other"}
    assert frame["config.data.target"].unique().to_list() == ["networkx"]
    assert frame["config.pipeline"][0] == '["a", "b"]'
    assert frame.schema["config.budget.fraction"] == pl.Float64
    assert frame["cost.phases.score.flops"].sum() == 27
    assert frame["cost.chosen_flops"].to_list() == [3.0] * 9  # pretraining is everyone's


def test_large_numbers_are_short(runs: Path) -> None:
    table = make_table(read_many([runs / "demo"]), ["label"], ["cost.phases.pretrain.flops"])
    assert ["cds", "2", "9.00e12 ± 0.00e12"] in [[row[0], row[1], row[-1]] for row in texts(table)]
    assert pm(-1.26e13, 4e11) == "−1.26e13 ± 0.04e13"
    assert pm(2e9, None) == "2.00e9"
    assert pm(2e9, None, decimals=0) == "2,000,000,000"


def test_mean_and_spread_by_any_keys(runs: Path) -> None:
    table = make_table(read_many([runs / "demo"]), ["label", "budget.fraction"], [LOSS])
    assert table.titles == ["label", "budget.fraction", "seeds", "target after FT"]
    assert ["cds", "10%", "2", "4.600 ± 0.707"] in texts(table)
    assert ["random", "50%", "2", "5.500 ± 0.707"] in texts(table)
    (best,) = [row[0].text for row in table.rows if row[3].best]
    assert best == "cds"


def test_what_varies_is_the_default_and_a_key_may_become_columns(runs: Path) -> None:
    assert make_table(read_many([runs / "demo"])).titles[:2] == ["label", "budget.fraction"]
    wide = make_table(read_many([runs / "demo"]), ["label"], [LOSS], "budget.fraction")
    assert wide.titles == ["label", "seeds", "cells", "10%", "50%"]
    assert texts(wide)[0] == ["cds", "2", "4", "4.600 ± 0.707", "5.000 ± 0.707"]


def test_only_some_cells(runs: Path) -> None:
    frame = read_many([runs])
    assert len(select(frame, ["label=cds", "budget.fraction=0.10"])) == 2
    with pytest.raises(InputError, match="label=cdss: no cell has it; label is cds, random"):
        select(frame, ["label=cdss"])
    with pytest.raises(InputError, match="must be KEY=VALUE"):
        select(frame, ["label"])


def test_sql(runs: Path) -> None:
    found = query(read_many([runs]), f'SELECT label, MIN("metrics.{LOSS}") AS best FROM results GROUP BY label ORDER BY best')
    assert found.rows() == [("cds", 1.0), ("random", 5.0)]
    with pytest.raises(InputError, match="columns are name, label"):
        query(read_many([runs]), "SELECT nothing FROM results")


def test_a_key_that_there_is_not_names_the_nearest(runs: Path) -> None:
    with pytest.raises(InputError, match=r"budget.fration: no cell has such a key; did you mean budget.fraction\?"):
        find_column(read_many([runs]), "budget.fration")


def test_a_store_of_parquet_files_is_read_like_the_results(runs: Path) -> None:
    store = runs / "results"
    assert keep(runs / "demo", store) == store / "demo.parquet"
    keep(runs / "other", store)
    own, kept = read_many([runs / "demo", runs / "other"]), read_many([store])
    assert kept.sort("cell").select(sorted(kept.columns)).equals(own.sort("cell").select(sorted(own.columns)))


def test_broken_results_are_left_out_and_nothing_is_an_error(runs: Path, tmp_path: Path) -> None:
    (runs / "demo" / "cds0.1" / "0" / "result.json").write_text("{")
    assert len(read_many([runs])) == 8
    with pytest.raises(InputError, match=r"no results in .*; give folders of sweeps"):
        read_many([tmp_path / "none"])
