"""The report of a single ranking of source tasks: in the terminal, and a page of its own that needs no script."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import polars as pl

from dsel.artifact import write_atomic
from dsel.report.aggregate import pm
from dsel.report.ranking import Ranking, Target, entries, to_csv
from dsel.report.template import fill

if TYPE_CHECKING:
    from rich.table import Table as RichTable

TABLE, TEMPLATE = "ranking.csv", "ranking.html.jinja"
SHOWN = 20  # sources in the terminal
Bars: TypeAlias = dict[str, tuple[float, float] | float | None]


def build_ranking(ranking: Ranking, quiet: bool = False) -> Path:
    """Write ranking.csv and report.html into the run's folder; prints a table for each target and the path unless `quiet`."""
    page = ranking.folder / "report.html"
    write_atomic(ranking.folder / TABLE, to_csv(ranking))
    write_atomic(page, render(ranking))
    if not quiet:
        from rich.console import Console

        console = Console(highlight=False)
        console = console if console.is_terminal else Console(highlight=False, width=120)  # a log file has no edge
        for target in ranking.targets:
            console.print(to_rich(ranking, target))
            if (left := len(target.rows) - SHOWN) > 0:
                console.print(f"{left} more in {TABLE}", markup=False)
            console.print(ranking.caption(target), markup=False, style="italic")
            for line in target.warnings:
                console.print(line, style="yellow", markup=False)
        console.print(f"report: {page}", markup=False, soft_wrap=True)
    return page


def to_rich(ranking: Ranking, target: Target) -> RichTable:
    """For the terminal: the first sources."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table as RichTable

    shown = entries(target)[:SHOWN]
    title = f"{target.name}: {len(target.rows)} sources by {ranking.scorer}"
    table = RichTable(
        title=escape(title),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title_justify="left",
    )
    for name in shown[0]:
        is_source = name == "source"
        table.add_column(
            escape(name), justify="left" if is_source else "right", no_wrap=not is_source, overflow="fold" if is_source else "ellipsis"
        )
    for entry in shown:
        table.add_row(*(escape(text) for text in entry.values()))
    return table


def headline(target: Target) -> list[str]:
    """What was found, in sentences."""
    first = target.rows.row(0, named=True)
    ties = target.rows.filter(pl.col("rank") == first["rank"])["source"].to_list()
    if len(ties) > 1:
        found = [f"For {target.name}, {len(ties)} of {len(target.rows)} sources tie for the first place."]
    else:
        sure = f" (rank {first['low']:.0f} to {first['high']:.0f} in 90 % of random halves of its rows)" if first["low"] is not None else ""
        found = [f"For {target.name}, {first['source']} stands first of {len(target.rows)} sources{sure}."]
    if target.none and (tried := target.rows.drop_nulls("gain")).height:
        best = tried.sort("gain", descending=True, maintain_order=True).row(0, named=True)
        gain = pm(best["gain"], best["gain_sd"], signed=True)
        count = tried.filter(pl.col("gain") > 0).height
        found.append(
            f"{count} of {tried.height} sources that were tried help; after the best of them, {best['source']}, {target.measure} changes "
            f"by {gain} from {pm(*target.none)} without a source."
        )
    return found


def render(ranking: Ranking) -> str:
    """The page: bars are plain elements, text is escaped, nothing is asked of the network."""
    import yaml

    record = ranking.record
    sections = [
        {"target": target, "entries": entries(target), "bars": _bars(target), "caption": ranking.caption(target)}
        for target in ranking.targets
    ]
    return fill(
        TEMPLATE,
        title=f"{str(record['name']).replace('_', ' ')} by {ranking.scorer}",
        headline=[line for target in ranking.targets for line in headline(target)],
        sections=sections,
        phases=record.get("cost", {}).get("phases", {}),
        metrics=record.get("metrics", {}),
        config=yaml.safe_dump(record.get("config", {}), sort_keys=False, allow_unicode=True, width=110),
        versions={**record.get("versions", {}), "git commit": record.get("git_commit"), "device": record.get("cost", {}).get("device")},
    )


def _bars(target: Target) -> list[Bars]:
    """Of each source, in percent of a bar's width: its rank, and start and width of the rank's interval and of the gain, from 0 in the
    middle."""
    scale = 100 / max(len(target.rows), 1)
    widest = max((abs(gain) for gain in target.rows["gain"].drop_nulls()), default=0.0) if target.none else 0.0
    found: list[Bars] = []
    for row in target.rows.iter_rows(named=True):
        low, high = row["low"], row["high"]
        gain = row.get("gain")
        share = 50 * gain / (widest or 1) if gain is not None else None
        found.append({
            "rank": (row["rank"] - 0.5) * scale,
            "interval": None if low is None else ((low - 1) * scale, (high - low + 1) * scale),
            "gain": None if share is None else (50 + min(share, 0), abs(share)),
        })  # fmt: skip
    return found
