"""What a sweep is to do: its cells and its launches, in `sweep.json` in the sweep's folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dsel.artifact import write_atomic
from dsel.error import InputError

SWEEP = "sweep.json"


@dataclass(frozen=True)
class PlannedCell:
    """A cell: its number, which it keeps, its folder within the sweep's, and the overrides that make it."""

    number: int
    folder: str
    overrides: list[str]


@dataclass(frozen=True)
class Launch:
    """One command that ran cells: what was typed and where, where outputs go, who runs it, and the numbers of the cells and jobs."""

    arguments: list[str]
    place: str
    outputs: str
    host: str
    pid: int
    started: float  # seconds since 1970
    first_job: int = 0
    cells: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plan:
    """All cells by their folder, and all launches, in order."""

    cells: dict[str, PlannedCell]
    launches: list[Launch]

    def launch_of(self, cell: PlannedCell) -> Launch:
        """The newest launch that held the cell."""
        return next(launch for launch in reversed(self.launches) if cell.number in launch.cells)


def read_plan(folder: Path) -> Plan | None:
    """The plan in `folder`; None where no sweep has begun. Errors: a file that is no plan."""
    path = folder / SWEEP
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        cells = [PlannedCell(cell["number"], cell["folder"], cell["overrides"]) for cell in record["cells"]]
        launches = [Launch(**{**launch, "cells": tuple(launch["cells"])}) for launch in record["launches"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not the plan of a sweep ({error}); move it away, and launch the sweep again") from error
    return Plan({cell.folder: cell for cell in cells}, launches)


def add_launch(folder: Path, cells: Sequence[tuple[str, list[str]]], launch: Launch) -> Launch:
    """Add a launch of `cells` (folder, overrides) to the plan; returns it with numbers. Cells keep the numbers they have, new ones and
    all jobs get the next: no two jobs of a sweep's folder ever share one."""
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{SWEEP}.lock"):
        plan = read_plan(folder) or Plan({}, [])
        known = dict(plan.cells)
        for place, overrides in cells:
            number = known[place].number if place in known else len(known)
            known[place] = PlannedCell(number, place, overrides)
        first = max((each.first_job + len(each.cells) for each in plan.launches), default=0)
        launch = replace(launch, first_job=first, cells=tuple(known[place].number for place, _ in cells))
        record = {"cells": [asdict(cell) for cell in known.values()], "launches": [asdict(each) for each in [*plan.launches, launch]]}
        write_atomic(folder / SWEEP, json.dumps(record, indent=1))
    return launch
