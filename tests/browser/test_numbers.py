"""What the page computes for what is left by the filter is what the report computes for all."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from reader import Reader

from dsel.report.aggregate import AFTER
from dsel.report.results import read_sweep
from dsel.report.table import make_table

pytestmark = pytest.mark.browser


def test_the_table_is_that_of_the_files(reader: Reader, page: Path) -> None:
    table = make_table(read_sweep(page.parent))
    expected = {name: [row[at].text for row in table.rows] for at, name in enumerate(table.titles)}
    reader.see("table")
    titles = reader.tab.locator("#table thead th").all_inner_texts()
    assert set(titles) - {"setting"} == set(expected) - {"method", "budget fraction", "seeds"}
    for at, title in enumerate(titles[1:], start=2):
        shown = reader.tab.locator(f"#table tbody tr > :nth-child({at})").all_inner_texts()
        assert [" ".join(text.split()) for text in shown] == expected[title], title


def test_the_best_are_those_of_the_files(reader: Reader, page: Path) -> None:
    table = make_table(read_sweep(page.parent))
    reader.see("table")
    best = [entry.text for row in table.rows for entry in row if entry.best]
    assert [" ".join(text.split()) for text in reader.tab.locator("#table td.best").all_inner_texts()] == best


def test_the_front_is_that_of_brute_force(reader: Reader, page: Path) -> None:
    reader.see("pareto")
    reader.tab.locator("#pareto select").select_option(label="seconds")
    frame = read_sweep(page.parent).frame
    means = frame.group_by("group", maintain_order=True).agg(pl.col(AFTER, "cost.seconds").mean()).rows()
    on_front = {name for name, loss, cost in means if not any((a <= loss and b < cost) or (a < loss and b <= cost) for _, a, b in means)}
    marks = reader.tab.locator("#pareto .mark:not(.beaten)").all()
    assert {str(mark.get_attribute("aria-label")).split(",")[0] for mark in marks} == on_front


def test_a_curve_ends_at_the_mean_of_its_seeds(reader: Reader, page: Path) -> None:
    reader.see("curves")
    label = str(reader.tab.locator("#curves .mark[aria-label^='cds · 30%']").get_attribute("aria-label"))
    mean = read_sweep(page.parent).frame.filter(pl.col("group") == "cds · 30%")[AFTER].mean()
    assert isinstance(mean, float)
    shown = float(label.split("ends at ")[1].split(" ")[0])
    assert shown == pytest.approx(mean, abs=0.01)  # the curve's last point has noise of its own
