"""How benchmarks show what they measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """A line of the table: what was measured, what it stands beside, and their ratio (or value) against the target."""

    key: str
    name: str
    ours: str
    beside: str
    value: float
    target: str = ""


def show(rows: Sequence[Row], title: str | None = None) -> None:
    """A table of the rows."""
    table = Table("what", "ours", "beside", "value", "target", title=title)
    for row in rows:
        table.add_row(row.name, row.ours, row.beside, f"{row.value:,.4g}", row.target)
    show_table(table)


def show_table(table: Table) -> None:
    """In the terminal; of a fixed width in a file."""
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def print_json(rows: Sequence[Row]) -> None:
    """The last line: each value by its key, to four decimals, or four digits where it is below 1."""
    print(json.dumps({row.key: round(row.value, 4) if abs(row.value) >= 1 else float(f"{row.value:.4g}") for row in rows}))
