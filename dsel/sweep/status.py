"""How a sweep stands: which cells are done, running, failed, dead or waiting, and how long the rest will take."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from dsel.error import InputError
from dsel.outcome import FAILED, RESULT, read_outcome
from dsel.sweep.attendance import is_alive, read_sign
from dsel.sweep.plan import PlannedCell, read_plan

State = Literal["done", "running", "failed", "died", "pruned", "waiting"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True)
class CellStatus:
    """A cell: `cause` in one line where it failed or died; `phase` and `share` (0..1 of the phase's work) of one that runs; `seconds` that
    it took, or has taken."""

    number: int | None
    folder: str
    overrides: list[str]
    state: State
    cause: str = ""
    phase: str = ""
    share: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Status:
    """All cells, by number; `seconds_left` is None where nothing is done yet or nothing left."""

    folder: Path
    cells: list[CellStatus]

    @property
    def counts(self) -> dict[str, int]:
        """Cells by state, the states without any left out."""
        found = Counter(cell.state for cell in self.cells)
        return {state: found[state] for state in STATES if found[state]}

    @property
    def seconds_left(self) -> float | None:
        """As if each cell took as long as those that are done did, and as many went on at a time as now."""
        done = [cell.seconds for cell in self.cells if cell.state == "done" and cell.seconds]
        running = [cell for cell in self.cells if cell.state == "running"]
        waiting = sum(cell.state == "waiting" for cell in self.cells)
        if not done or not (running or waiting):
            return None
        each = statistics.fmean(done)
        started = sum(max(0.0, each - (cell.seconds or 0.0)) for cell in running)
        return (waiting * each + started) / max(1, len(running))


def read_status(folder: Path) -> Status:
    """How the sweep in `folder` stands, from its plan and from what its cells left. Errors: no folder, nothing of a sweep in it."""
    if not folder.is_dir():
        raise InputError(f"no folder {folder}; give the folder of a sweep, such as outputs/runs/demo")
    plan = read_plan(folder)
    planned = list(plan.cells.values()) if plan else []
    known = {cell.folder for cell in planned}
    others = sorted(str(path.parent.relative_to(folder)) for name in (RESULT, FAILED) for path in folder.rglob(name))
    if not planned and not others:
        raise InputError(f"{folder}: holds neither {RESULT} nor the plan of a sweep; give the folder of a sweep, such as outputs/runs/demo")
    found = [_look(folder, cell.folder, cell) for cell in planned]
    return Status(folder, found + [_look(folder, name, None) for name in dict.fromkeys(others) if name not in known])


def _look(sweep: Path, name: str, planned: PlannedCell | None) -> CellStatus:
    folder = sweep / name
    cell = CellStatus(planned.number if planned else None, name, planned.overrides if planned else [], "waiting")
    sign = read_sign(folder)
    if sign is not None and is_alive(folder, sign):
        return _with(cell, "running", phase=sign.phase, share=sign.share, seconds=time.time() - sign.started)
    result, failed = read_outcome(folder / RESULT), read_outcome(folder / FAILED)
    if failed is not None:  # it is taken away when the cell begins anew
        return _with(cell, "pruned" if failed.get("pruned") else "failed", cause=str(failed.get("error", "")))
    if result is not None:
        return _with(cell, "done", seconds=_seconds(result))
    if sign is not None:
        where = f" in {sign.phase}" if sign.phase else ""
        return _with(cell, "died", cause=f"killed{where}, process {sign.pid} on {sign.host}", seconds=sign.beat - sign.started)
    return cell


def _with(cell: CellStatus, state: State, **more: Any) -> CellStatus:
    return CellStatus(cell.number, cell.folder, cell.overrides, state, **more)


def _seconds(result: dict[str, Any]) -> float | None:
    cost = result.get("cost")
    seconds = cost.get("seconds_here") if isinstance(cost, dict) else None
    return float(seconds) if isinstance(seconds, int | float) else None
