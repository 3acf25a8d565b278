"""What a report shows of estimates, and of the first-order approximation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from made_up_estimates import GRADEX, write_estimates

from dsel.report.build import build
from dsel.report.content import gather
from dsel.report.results import read_sweep
from dsel.report.tasks import read_errors, read_estimates, task_headline


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the made-up sweep."""
    return write_estimates(tmp_path_factory.mktemp("tasks"))


def test_the_estimates_are_read_and_drawn(folder: Path) -> None:
    content = gather(read_sweep(folder))
    assert {"agreement", "estimates"} <= set(content.figures)
    assert not {"losses", "approximation"} & set(content.figures)
    assert content.problems == []
    rows = read_estimates(content.sweep, [])
    assert len(rows) == 2 * 2 * 30
    spec = json.dumps(content.figures["estimates"].spec)
    assert spec.count('"strokeDash": [5, 4]') == 1  # the line of equality, for losses only
    titles = content.table.titles
    assert {"relative error", "Spearman", "times as fast", "LDS", "error of the mean"} <= set(titles)
    column = titles.index("relative error")
    assert [row[column].text for row in content.table.rows] == ["0.0205 ± 0.0007", ""]


def test_the_headline_says_what_was_judged(folder: Path) -> None:
    found = gather(read_sweep(folder)).headline
    assert found == task_headline(read_sweep(folder))
    assert "gradex comes closest to the true losses: its relative error is 0.0205 ± 0.0007 over 2 seeds." in found
    assert "gradex orders subsets best: its rank correlation with the truth is 0.9000 ± 0.0000 over 2 seeds." in found
    assert "gradex saves most: it is 40.5 ± 0.7 times as fast as training on as many subsets over 2 seeds." in found


def test_a_page_of_estimates(folder: Path) -> None:
    page = build(folder, formats=(), quiet=True).read_text(encoding="utf-8")
    assert 'id="estimates"' in page
    assert 'href="#losses"' not in page
    assert "No cell has a target loss yet" not in page


def test_errors_of_the_approximation(tmp_path: Path) -> None:
    for seed in (0, 1):
        rows = [{"direction": k, "distance": d, "first_order": d**4, "zero_order": d**2} for k in range(2) for d in (0.02, 0.1)]
        metrics = {"first_order_error_0.02": 5e-5, "zero_order_error_0.02": 5e-3}
        replace(GRADEX, phase="approximate").write(tmp_path, "gpt2_tiny", seed, metrics, {"approximation.parquet": pl.DataFrame(rows)})
    sweep = read_sweep(tmp_path / "sweep")
    assert len(read_errors(sweep, [])) == 8
    content = gather(sweep)
    assert "approximation" in content.figures
    drawn = json.dumps(content.figures["approximation"].spec)
    assert "with the gradient" in drawn
    assert '"type": "log"' in drawn
    assert content.headline == [
        "Moved by 2 %, the first-order approximation is best for gpt2_tiny: its squared relative error is 0.0001 ± 0.0000 over 2 seeds."
    ]


def test_a_broken_file_is_a_problem_that_is_named(folder: Path, tmp_path: Path) -> None:
    import shutil

    home = shutil.copytree(folder.parent, tmp_path / "copy")
    (home / "artifacts" / "judge-gradex-0" / "judged.parquet").write_bytes(b"no parquet")
    content = gather(read_sweep(home / "sweep"))
    assert len(content.problems) == 1
    assert "judged.parquet of judge cannot be read" in content.problems[0]
