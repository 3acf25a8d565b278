"""The report of a single ranking: its rows, CSV, page, and how the command and the callback find it."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from omegaconf import OmegaConf

from dsel.error import InputError
from dsel.report.__main__ import main
from dsel.report.callback import Report
from dsel.report.ranking import Ranking, entries, read_ranking, to_csv
from dsel.report.ranking_page import SHOWN, build_ranking, headline, render

NASTY = "<script>alert('x')</script> & [bold]"
NAN = math.nan


def row(source: str, rank: float, score: float = -0.5, target: str = "reviews", **changed: Any) -> dict[str, Any]:
    """A row of ranking.parquet."""
    return {
        "target": target, "source": source, "rank": rank, "score": score, "low": 1.0, "high": 2.6, "in_top": 0.614, "source_rows": 1500,
        "target_rows": 360, "regression": False,
    } | changed  # fmt: skip


def repeats(source: str, *values: float, target: str = "reviews", regression: bool = False) -> list[dict[str, Any]]:
    """Rows of transfer.parquet."""
    return [
        {"target": target, "source": source, "repeat": at, "performance": value, "regression": regression}
        for at, value in enumerate(values)
    ]


def write_run(home: Path, ranking: list[dict[str, Any]], transfer: list[dict[str, Any]] | None = None, scorer: str = "esm_logme") -> Path:
    """A run's folder with its artifacts beside it."""
    folder, artifacts = home / "run", {}
    folder.mkdir(parents=True)
    for phase, name, rows in (("rank", "ranking.parquet", ranking), ("transfer", "transfer.parquet", transfer)):
        if rows is not None:
            (home / phase).mkdir()
            pl.DataFrame(rows).write_parquet(home / phase / name)
            artifacts[phase] = f"../{phase}"
    record = {
        "name": "rank_tasks", "label": "mine", "seed": 0, "overrides": {}, "metrics": {"ms_per_source": 39.74, "bytes_per_source": 66232.0},
        "cost": {"seconds": 1.0, "device": "cpu", "phases": {"rank": {"seconds": 41.66, "reused": False}}}, "artifacts": artifacts,
        "config": {"task_scorer": {"_target_": f"dsel.task_scorer.{scorer}.Scorer"}}, "versions": {"torch": "2"}, "git_commit": "0",
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(record))
    return folder


def read(folder: Path) -> Ranking:
    """What must be there."""
    found = read_ranking(folder)
    assert found is not None
    return found


RANKED = [row("books", 1.0, -0.66267), row("dvd", 2.0, -0.67), row("cola", 3.0, -0.7)]
TRIED = [*repeats("none", 0.60, 0.70), *repeats("books", 0.65, 0.77), *repeats("dvd", 0.5, 0.6)]


def test_rows_with_transfers(tmp_path: Path) -> None:
    ranking = read(write_run(tmp_path, RANKED, TRIED))
    (target,) = ranking.targets
    found = entries(target)
    assert found[0] == {
        "rank": "1", "source": "books", "score": "−0.6627", "interval": "1 to 3", "in first 3": "61 %", "rows": "1,500",
        "accuracy after": "0.710 ± 0.085", "gain": "+0.060 ± 0.014",
    }  # fmt: skip
    assert found[1]["gain"] == "−0.100 ± 0.000"  # paired by repeat
    assert found[2]["accuracy after"] == found[2]["gain"] == ""  # not tried
    caption = ranking.caption(target)
    assert caption.startswith(
        "Score: esm_logme (log evidence of the target's labels under the source's map, nats a row); larger is better."
    )
    assert "Interval: ranks in 90 % of random halves of the target's 360 rows." in caption
    assert caption.endswith("mean ± sd over 2 repeats; without a source 0.650 ± 0.071.")
    assert headline(target) == [
        "For reviews, books stands first of 3 sources (rank 1 to 3 in 90 % of random halves of its rows).",
        "1 of 2 sources that were tried help; after the best of them, books, accuracy changes by +0.060 ± 0.014 from 0.650 ± 0.071 without "
        "a source.",
    ]


def test_rows_without_transfers_and_resamples(tmp_path: Path) -> None:
    unknown = {"low": NAN, "high": NAN, "in_top": NAN}
    ranking = read(write_run(tmp_path, [row("books", 1.0, **unknown), row("dvd", 2.0, NAN, **unknown)], scorer="of_mine"))
    (target,) = ranking.targets
    assert [list(entry) for entry in entries(target)] == [["rank", "source", "score", "rows"]] * 2
    assert entries(target)[1]["score"] == "no score"
    assert ranking.caption(target) == "Score: of_mine; larger is better."
    assert headline(target) == ["For reviews, books stands first of 2 sources."]
    assert "track" not in render(ranking).partition("<body>")[2]


def test_a_single_repeat_has_no_spread(tmp_path: Path) -> None:
    (target,) = read(write_run(tmp_path, RANKED, [*repeats("none", 0.6), *repeats("books", 0.65)])).targets
    assert entries(target)[0]["gain"] == "+0.050"
    assert target.none == (0.6, None)


def test_sources_that_tie(tmp_path: Path) -> None:
    tied = [row("dvd", 3.0, 0.0), row("books", 1.5, 2.0), row("art", 1.5, 2.0)]
    (target,) = read(write_run(tmp_path, tied)).targets
    assert [(entry["rank"], entry["source"]) for entry in entries(target)] == [("1.5", "books"), ("1.5", "art"), ("3", "dvd")]
    assert headline(target) == ["For reviews, 2 of 3 sources tie for the first place."]


def test_a_regression_beside_a_classification(tmp_path: Path) -> None:
    ranked = [*RANKED, row("cola", 1.0, target="length", regression=True), row("books", 2.0, target="length", regression=True)]
    tried = [*TRIED, *repeats("none", 0.3, 0.4, target="length", regression=True), *repeats("cola", 0.5, 0.6, target="length")]
    ranking = read(write_run(tmp_path, ranked, tried))
    first, second = ranking.targets
    assert (first.measure, second.measure) == ("accuracy", "correlation")
    assert entries(second)[0]["correlation after"] == "0.550 ± 0.071"
    assert entries(first)[0]["accuracy after"] == "0.710 ± 0.085"  # of its own target
    assert "Correlation after fine-tuning" in ranking.caption(second)
    rows = list(csv.DictReader(to_csv(ranking).splitlines()))
    assert [(each["target"], each["source"], each["measure"]) for each in rows[2:4]] == [
        ("reviews", "cola", "accuracy"), ("length", "cola", "correlation"),
    ]  # fmt: skip


def test_the_csv_is_in_full_precision(tmp_path: Path) -> None:
    folder = write_run(tmp_path, [*RANKED, row(NASTY + ', "', 4.0, NAN)], TRIED)
    build_ranking(read(folder), quiet=True)
    rows = list(csv.DictReader((folder / "ranking.csv").read_text(encoding="utf-8").splitlines()))
    assert list(rows[0]) == [
        "target", "source", "rank", "score", "low", "high", "in_top", "source_rows", "target_rows", "measure", "none", "performance",
        "performance_sd", "gain", "gain_sd",
    ]  # fmt: skip
    assert float(rows[0]["score"]) == -0.66267
    assert float(rows[0]["gain"]) == pytest.approx(0.06)
    assert float(rows[0]["none"]) == pytest.approx(0.65)
    assert rows[2]["gain"] == rows[2]["performance"] == ""
    assert rows[3]["source"] == NASTY + ', "'
    assert rows[3]["score"] == ""


def test_the_page_escapes_sources_and_has_no_script(tmp_path: Path) -> None:
    folder = write_run(tmp_path, [row(NASTY, 1.0, target="t <i>", target_rows=20), row("dvd", 2.0, target="t <i>")])
    page = build_ranking(read(folder), quiet=True).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<i>t" not in page
    assert "t <i>" not in page
    assert page.count("&lt;script&gt;alert(") == 2  # in the headline and in the table
    assert "default-src 'none'; style-src 'unsafe-inline'" in page
    assert "20 rows of t &lt;i&gt; are few to rank by" in page
    assert "39.7 ms a source" in page
    assert "66,232 bytes a source" in page


def test_ranks_outside_of_their_intervals_are_named(tmp_path: Path) -> None:
    (target,) = read(write_run(tmp_path, [row("books", 1.0, low=2.0, high=3.0), row("dvd", 2.0), row("cola", 3.0)])).targets
    told = "with half of the rows the order is another, so do not trust it"
    assert target.warnings == [f"reviews: 1 of 3 sources have a rank outside of its own interval: {told}"]


def test_sources_whose_rows_are_unknown(tmp_path: Path) -> None:
    ranking = read(write_run(tmp_path, [row("books", 1.0, source_rows=0), row("dvd", 2.0, source_rows=0)]))
    assert "rows" not in entries(ranking.targets[0])[0]
    assert [each["source_rows"] for each in csv.DictReader(to_csv(ranking).splitlines())] == ["", ""]


def test_bars_stand_at_their_ranks(tmp_path: Path) -> None:
    page = render(read(write_run(tmp_path, RANKED, TRIED)))
    assert 'style="left: 0.00%; width: 86.67%"' in page  # rank 1 to 2.6 of 3
    assert '<b style="left: 16.67%">' in page  # in the middle of the first third
    assert '<i class="harms" style="left: 0.00%; width: 50.00%">' in page  # the widest gain, a loss
    assert '<i style="left: 50.00%; width: 30.00%">' in page


def test_the_terminal_shows_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ranked = [row(f"source {at} [red]", at, target_rows=120) for at in range(1, SHOWN + 4)]
    build_ranking(read(write_run(tmp_path, ranked)))
    shown = capsys.readouterr().out
    assert f"reviews: {SHOWN + 3} sources by esm_logme" in shown
    assert f"source {SHOWN} [red]" in shown  # no markup of the console
    assert f"source {SHOWN + 1}" not in shown
    assert "3 more in ranking.csv" in shown
    assert "120 rows of reviews are few to rank by" in shown
    assert shown.rstrip().endswith("report.html")


def test_enough_rows_are_no_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_ranking(read(write_run(tmp_path, [row("books", 1.0, target_rows=300)])))
    shown = capsys.readouterr().out
    assert "few to rank by" not in shown
    assert "more in" not in shown


def test_the_command_and_the_callback_find_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path, RANKED, TRIED)
    assert main([str(folder)]) == 0
    assert "books" in capsys.readouterr().out
    (folder / "report.html").unlink()
    config = OmegaConf.create({"hydra": {"run": {"dir": str(folder)}}})
    Report().on_run_end(config, job_return=SimpleNamespace(_return_value=1.0))
    assert "books" in capsys.readouterr().out
    assert (folder / "report.html").is_file()


def test_a_run_without_a_ranking_has_no_report(tmp_path: Path) -> None:
    assert read_ranking(tmp_path) is None
    (tmp_path / "result.json").write_text(json.dumps({"name": "x", "label": "y", "seed": 0, "artifacts": {"train": "t"}}))
    assert read_ranking(tmp_path) is None


@pytest.mark.parametrize("name", ["rank/ranking.parquet", "transfer/transfer.parquet"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path, RANKED, TRIED)
    (tmp_path / name).write_bytes(b"no parquet")
    with pytest.raises(InputError, match="cannot be read") as caught:
        read_ranking(folder)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert main([str(folder)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    pl.DataFrame({"source": ["books"]}).write_parquet(tmp_path / name)
    with pytest.raises(InputError, match="run the ranking again"):
        read_ranking(folder)
