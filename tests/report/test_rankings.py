"""What a report shows of a sweep of rankings: regrets, what they cost, and what transfers bring."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from made_up_rankings import GAINS, regrets, transfers, write_cell, write_rankings

from dsel.report.build import build
from dsel.report.content import Content, gather
from dsel.report.rankings import in_bytes, mean_gains, ranking_headline, read_transfers
from dsel.report.results import read_sweep


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three methods and two seeds."""
    return write_rankings(tmp_path_factory.mktemp("rankings"))


@pytest.fixture(scope="module")
def content(folder: Path) -> Content:
    return gather(read_sweep(folder))


def column(content: Content, title: str) -> dict[str, str]:
    """Method -> text of a column."""
    at = content.table.titles.index(title)
    return {row[0].text: row[at].text for row in content.table.rows}


def test_the_table_has_the_measures_of_a_ranking(content: Content) -> None:
    assert [row[0].text for row in content.table.rows] == ["random_order", "esm_logme", "logme"]
    assert column(content, "regret@5 %") == {"random_order": "4.10 ± 0.14", "esm_logme": "1.10 ± 0.14", "logme": "0.60 ± 0.14"}
    assert column(content, "regret@5 % (regression)")["logme"] == "1.20 ± 0.28"
    assert column(content, "bytes a source") == {"random_order": "0 ± 0", "esm_logme": "66,000 ± 0", "logme": "6,600,000 ± 0"}
    assert column(content, "ms a source")["esm_logme"] == "15.00 ± 7.07"
    at = content.table.titles.index("regret@5 %")
    assert [row[at].best for row in content.table.rows] == [False, False, True]
    assert {"NDCG", "rank correlation", "no transfer", "mean transfer", "best transfer", "share that helps"} <= set(content.table.titles)


def test_the_figures_of_a_sweep_with_regressions(content: Content) -> None:
    assert {"regret", "ranking_cost", "transfers"} <= set(content.figures)
    assert content.problems == []
    spec = json.dumps(content.figures["regret"].spec)
    for title in ("regret@1 %", "regret@3 %", "regret@5 %", "NDCG", "rank correlation"):
        assert f'"{title}"' in spec
        assert f'"{title} (regression)"' in spec
    cost = json.dumps(content.figures["ranking_cost"].spec)
    assert '"type": "log"' in cost
    for words in ("nothing", "66 kB", "6.6 MB", "regret@5 % (regression)"):
        assert f'"{words}"' in cost


def test_a_cell_a_seed_is_read(folder: Path) -> None:
    rows = read_transfers(read_sweep(folder), [])
    assert len(rows) == 2 * 2 * 3  # seeds, targets, sources, however many methods
    own = rows.filter((pl.col("seed") == 1) & (pl.col("target") == "kind") & (pl.col("source") == "cola")).row(0, named=True)
    assert own["none"] == pytest.approx(0.5)
    assert own["performance"] == pytest.approx(0.22)
    assert own["gain"] == pytest.approx(-0.28)
    assert rows.filter("regression")["target"].unique().to_list() == ["length"]


def test_mean_gains_over_seeds_the_most_helpful_first(folder: Path) -> None:
    rows = mean_gains(read_transfers(read_sweep(folder), []))
    assert rows["source"].unique(maintain_order=True).to_list() == ["books", "dvd <b>", "cola"]
    for target, source, mean, sd, n in rows.select("target", "source", "mean", "sd", "n").iter_rows():
        assert mean == pytest.approx(GAINS[target][source] + 0.01)
        assert sd == pytest.approx(0.02 / 2**0.5)
        assert n == 2


def test_sources_that_tie_stand_by_name() -> None:
    shape = {"seed": [0, 0], "target": ["t", "t"], "regression": [False, False], "none": [0.5, 0.5], "performance": [0.6, 0.6]}
    rows = mean_gains(pl.DataFrame(shape | {"source": ["b", "a"], "gain": [0.1, 0.1]}))
    assert rows["source"].to_list() == ["a", "b"]
    assert rows["sd"].to_list() == [None, None]  # one seed


def test_colours_diverge_around_zero(content: Content) -> None:
    spec = content.figures["transfers"].spec
    domain = spec["layer"][0]["encoding"]["color"]["scale"]["domain"]
    assert domain[1] == 0
    assert domain[0] == -domain[2]
    assert domain[2] == pytest.approx(0.29)  # the largest of six
    assert spec["layer"][0]["encoding"]["y"]["sort"] == ["books", "dvd <b>", "cola"]
    assert spec["layer"][0]["encoding"]["x"]["sort"] == ["kind", "length"]  # regressions last
    measures = {row["target"]: row["measure"] for rows in spec["datasets"].values() for row in rows}
    assert measures == {"kind": "accuracy", "length": "correlation"}


def test_the_headline_of_rankings(content: Content) -> None:
    found = content.headline
    first = "On classification targets, logme has the smallest regret@5: 0.60 ± 0.14 %, 3.50 ± 0.00 below random_order with the same seeds"
    assert found[0] == f"{first} (lower in 2 of 2)."
    assert found[1] == "The runner-up, esm_logme, is 0.500 ± 0.000 behind (2 of 2 seeds agree)."
    assert any(line.startswith("On regression targets, logme has the smallest regret@5: 1.20 ± 0.28 %") for line in found)
    maps = "Beside logme, esm_logme is 20.0 ± 0.0 times as fast and 100.0 ± 0.0 times smaller on disk; "
    assert f"{maps}regret@5 1.10 ± 0.14 %, beside 0.60 ± 0.14 %; regret@5 (regression) 2.20 ± 0.28 %, beside 1.20 ± 0.28 %." in found
    brought = "0.500 ± 0.000 without a transfer, 0.610 ± 0.000 after their best source and 0.450 ± 0.000 after a mean one"
    assert f"Classification targets reach accuracy {brought}; 66.7 ± 0.0 % of the sources help." in found
    assert not any("target loss" in line for line in found)


def test_methods_that_tie_share_the_headline(tmp_path: Path) -> None:
    for label in ("nce", "leep", "random_order"):
        write_cell(tmp_path, label, 0, {"regret_5": 2.0 if label == "random_order" else 0.0})
    found = ranking_headline(read_sweep(tmp_path / "sweep"))
    assert found[0].startswith("On classification targets, leep and nce have the smallest regret@5: 0.00 %")
    assert not any("runner-up" in line for line in found)
    assert found[-1].startswith("One seed (0)")


def test_a_sweep_of_transfers_alone(tmp_path: Path) -> None:
    for seed in (0, 1):
        metrics = {"transfer_none_regression": 0.4, "transfer_mean_regression": 0.3, "transfer_best_regression": 0.5 + 0.1 * seed}
        write_cell(tmp_path, "transfer", seed, metrics | {"transfer_helps_regression": 0.25}, name="task_transfer")
    content = gather(read_sweep(tmp_path / "sweep"))
    assert "transfers" in content.figures
    assert not {"regret", "ranking_cost"} & set(content.figures)
    brought = "0.400 ± 0.000 without a transfer, 0.550 ± 0.071 after their best source and 0.300 ± 0.000 after a mean one"
    assert content.headline == [f"Regression targets reach correlation {brought}; 25.0 ± 0.0 % of the sources help."]


def test_a_sweep_without_transfers(tmp_path: Path) -> None:
    for label in ("random_order", "logme"):
        write_cell(tmp_path, label, 0, regrets(label, 0)).unlink()
    content = gather(read_sweep(tmp_path / "sweep"))
    assert "regret" in content.figures
    assert not {"transfers", "ranking_cost"} & set(content.figures)  # nor the time that a source takes
    assert not any("transfer" in line for line in content.headline)


def test_other_transfers_in_a_seed_are_named(tmp_path: Path) -> None:
    for label, frame in (("random_order", transfers(0)), ("logme", transfers(1))):
        write_cell(tmp_path, label, 0, {"regret_5": 1.0}, frame=frame)
    problems: list[str] = []
    rows = read_transfers(read_sweep(tmp_path / "sweep"), problems)
    assert problems == ["seed 0: 1 of 2 settings have other transfers than random_order, whose are drawn"]
    assert rows["gain"].max() == pytest.approx(0.2)


def test_sizes_are_read_by_people() -> None:
    assert [in_bytes(n) for n in (0, 8, 66232, 999.0e3, 18.4e6, 2.5e12)] == ["nothing", "8 B", "66.2 kB", "999 kB", "18.4 MB", "2,500 GB"]


def test_a_page_of_rankings(folder: Path) -> None:
    page = build(folder, formats=("svg",), quiet=True).read_text(encoding="utf-8")
    assert 'id="rankings"' in page
    assert "dvd <b>" not in page
    assert "No cell has a target loss yet" not in page
    assert (folder / "figures" / "transfers.svg").read_text().count(">+0.110</text>") == 2  # books for kind, cola for length
