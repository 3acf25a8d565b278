"""The state of a sweep in the terminal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from dsel.sweep.status import CellStatus, Status

COLOURS = {"done": "green", "running": "cyan", "failed": "red", "died": "red", "pruned": "yellow", "waiting": "default"}
SHOWN = 12  # cells of one cause, or that run


def tell(status: Status) -> None:
    """Counts, what runs, what failed by its cause, and the time left."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    counts = "  ".join(f"[{COLOURS[state]}]{state} {count}[/]" for state, count in status.counts.items())
    left = status.seconds_left
    console.print(f"{escape(str(status.folder))}: {len(status.cells)} cells  {counts}" + (f"  about {clock(left)} left" if left else ""))
    for cell in [cell for cell in status.cells if cell.state == "running"][:SHOWN]:
        share = "" if cell.share is None else f" {cell.share:.0%}"
        console.print(f"  [cyan]running[/] {escape(name(cell))}  {escape(cell.phase)}{share}, {clock(cell.seconds or 0)} so far")
    for (state, cause), cells in _by_cause(status.cells).items():
        told = ", ".join(name(cell) for cell in cells[:SHOWN]) + (f" and {len(cells) - SHOWN} more" if len(cells) > SHOWN else "")
        console.print(f"  [{COLOURS[state]}]{state}[/] {escape(told)}: {escape(cause)}")
    if status.counts.keys() & {"failed", "died"}:
        console.print(f"run them again: python -m dsel.sweep retry {escape(str(status.folder))}")


def name(cell: CellStatus) -> str:
    """The number and the folder of a cell."""
    return cell.folder if cell.number is None else f"#{cell.number} {cell.folder}"


def clock(seconds: float) -> str:
    """3:07, or 2:03:07 from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _by_cause(cells: Sequence[CellStatus]) -> dict[tuple[str, str], list[CellStatus]]:
    found: dict[tuple[str, str], list[CellStatus]] = defaultdict(list)
    for cell in cells:
        if cell.state in ("failed", "died", "pruned"):
            found[cell.state, cell.cause].append(cell)
    return found
