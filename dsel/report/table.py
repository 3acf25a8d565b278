"""The table of a sweep, a row a group: for the terminal, CSV, Markdown, LaTeX and the page."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from dsel.report.aggregate import AFTER, BEFORE, TRAINED, Difference, aggregate, baseline, compare_with, pm, rank
from dsel.report.metrics import METRICS, Better
from dsel.report.results import Sweep

if TYPE_CHECKING:
    from rich.table import Table as RichTable

LATEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "−": "$-$", "Δ": r"$\Delta$", "·": r"$\cdot$"}
LATEX |= {mark: "\\" + mark for mark in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


@dataclass(frozen=True)
class Entry:
    """What stands in one place: text for a reader, the numbers behind it, and whether it is its column's best."""

    text: str
    mean: float | None = None
    sd: float | None = None
    best: bool = False

    @property
    def parts(self) -> tuple[str, str]:
        """The mean, and what comes after it: narrow pages set them on two lines."""
        head, mark, tail = self.text.partition(" ± ")
        return head, mark.lstrip() + tail


@dataclass(frozen=True)
class Table:
    """`rows` (group, column) under `titles` (column,); the first `num_keys` columns name the group."""

    titles: list[str]
    rows: list[list[Entry]]
    num_keys: int

    def drop_last(self) -> Table:
        """Without the last column, for a narrow terminal."""
        return Table(self.titles[:-1], [row[:-1] for row in self.rows], self.num_keys)


def make_table(sweep: Sweep) -> Table:
    """One row a group: what varied, number of seeds, mean ± sd of each metric, and paired differences from random."""
    frame = sweep.frame
    groups = frame.group_by("group", maintain_order=True).agg(
        pl.col("series").first(), pl.col("x_text").first(), n=pl.col("seed").n_unique()
    )
    names = groups["group"].to_list()
    columns = {"method": [Entry(name) for name in groups["series"]]}
    if any(groups["x_text"]):
        columns[(sweep.x or "x").replace(".", " ").replace("_", " ")] = [Entry(text) for text in groups["x_text"]]
    num_keys = len(columns)
    columns["seeds"] = [Entry(str(n)) for n in groups["n"]]
    means = aggregate(frame)
    for metric, title, decimals, better in _metrics(frame):
        columns[title] = _column(means, names, metric, decimals, better)
        if metric in (BEFORE, AFTER, TRAINED) and (found := compare_with(sweep, metric)):
            columns[f"Δ {baseline(sweep)} {title.removeprefix('target')}".replace("  ", " ").strip()] = _differences(found, names)
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return Table(list(columns), rows, num_keys)


def _metrics(frame: pl.DataFrame) -> list[tuple[str, str, int, Better | None]]:
    """The metrics that some cell has; the pool loss without a moment only where it stands alone."""
    found = [entry for entry in METRICS if rank(frame, entry[0])]
    if not any(entry[0].startswith("metrics.pool_loss_") for entry in found) and rank(frame, "metrics.pool_loss"):
        place = sum(entry[0] in (BEFORE, AFTER) for entry in found)
        found.insert(place, ("metrics.pool_loss", "pool", 3, "low"))
    return found


def _column(means: pl.DataFrame, names: list[str], metric: str, decimals: int, better: Better | None) -> list[Entry]:
    rows = means.filter(pl.col("metric") == metric).select("group", "mean", "sd").iter_rows()
    return to_entries({group: (mean, sd) for group, mean, sd in rows}, names, decimals, better)


def to_entries(found: Mapping[Any, tuple[float, float | None]], names: Sequence[Any], decimals: int, better: Better | None) -> list[Entry]:
    """A column: mean ± sd of each name that has one, and which is best, if they are not all the same."""
    values = [found[name][0] for name in names if name in found]
    best = {"low": min, "high": max}[better](values) if better and len(set(values)) > 1 else None
    return [Entry(pm(*found[name], decimals), *found[name], found[name][0] == best) if name in found else Entry("") for name in names]


def _differences(found: dict[str, Difference], names: list[str]) -> list[Entry]:
    entries = []
    for name in names:
        gap = found.get(name)
        text = f"{pm(gap.mean, gap.sd, signed=True)} ({gap.wins}/{gap.n})" if gap else ""
        entries.append(Entry(text, gap.mean, gap.sd) if gap else Entry(text))
    return entries


def to_rich(table: Table, title: str) -> RichTable:
    """For the terminal."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table as RichTable

    caption = "mean ± sd over seeds; losses in nats/token; Δ: paired by seed (seeds below it / seeds)"
    shown = RichTable(
        title=escape(title),
        caption=caption,
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title_justify="left",
        caption_justify="left",
    )
    for at, name in enumerate(table.titles):
        shown.add_column(escape(name), justify="left" if at < table.num_keys else "right", no_wrap=True)
    for row in table.rows:
        shown.add_row(*(f"[bold]{escape(entry.text)}[/bold]" if entry.best else escape(entry.text) for entry in row))
    return shown


def to_csv(table: Table) -> str:
    """Full precision: each measured column as two, its mean and its standard deviation."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    numeric = [any(row[at].mean is not None for row in table.rows) for at in range(len(table.titles))]
    head = [[title, f"{title} sd"] if number else [title] for title, number in zip(table.titles, numeric, strict=True)]
    writer.writerow([name for names in head for name in names])
    for row in table.rows:
        cells = [[entry.mean, entry.sd] if number else [entry.text] for entry, number in zip(row, numeric, strict=True)]
        writer.writerow([value for values in cells for value in values])
    return text.getvalue()


def to_markdown(table: Table) -> str:
    """A GitHub table, best values bold."""
    lines = [table.titles, [":--" if at < table.num_keys else "--:" for at in range(len(table.titles))]]
    for row in table.rows:
        texts = [entry.text.replace("|", "\\|") for entry in row]
        lines.append([f"**{text}**" if entry.best else text for text, entry in zip(texts, row, strict=True)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_latex(table: Table) -> str:
    """A booktabs table, best values bold."""
    columns = "l" * table.num_keys + "r" * (len(table.titles) - table.num_keys)
    lines = [r"% \usepackage{booktabs}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [" & ".join(_latex(title) for title in table.titles) + r" \\", r"\midrule"]
    for row in table.rows:
        cells = [rf"\textbf{{{_latex(entry.text)}}}" if entry.best else _latex(entry.text) for entry in row]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex(text: str) -> str:
    return "".join(LATEX.get(mark, mark) for mark in text)
