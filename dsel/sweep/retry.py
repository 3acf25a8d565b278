"""Run again what of a sweep did not end: the commands that were typed, for the cells that failed, died or never began."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dsel.error import InputError
from dsel.sweep.plan import Launch, read_plan
from dsel.sweep.status import read_status

LAUNCHER = "hydra/launcher"
AGAIN = ("failed", "died", "waiting")


@dataclass(frozen=True)
class Retry:
    """A launch to repeat for some of its cells."""

    launch: Launch
    cells: list[int]

    def command(self, more: Sequence[str] = ()) -> list[str]:
        """What to type; `more` stands above what was typed before."""
        only = f"hydra.sweeper.only=[{','.join(str(number) for number in self.cells)}]"
        replaced = {_key(argument) for argument in more}
        kept = [argument for argument in self.launch.arguments if _key(argument) not in replaced]
        if LAUNCHER in replaced:  # its options are of no use to another
            kept = [argument for argument in kept if not _key(argument).startswith("hydra.launcher.")]
        return [sys.executable, "-m", "dsel.run", *kept, *more, only]


def find_retries(folder: Path) -> list[Retry]:
    """For each launch the cells that it was the last to hold and that are to be run again. Errors: a folder without a plan."""
    plan = read_plan(folder)
    if plan is None:
        raise InputError(f"{folder}: holds no sweep.json, which says what was launched; launch the sweep again by its own command")
    again = {cell.folder for cell in read_status(folder).cells if cell.state in AGAIN}
    found: dict[int, list[int]] = defaultdict(list)
    for cell in plan.cells.values():
        if cell.folder in again:
            found[plan.launches.index(plan.launch_of(cell))].append(cell.number)
    return [Retry(plan.launches[number], cells) for number, cells in sorted(found.items())]


def run_retries(retries: Sequence[Retry], more: Sequence[str] = ()) -> int:
    """Run them one after the other, each where it was typed and with the outputs that it had; the worst exit code."""
    codes = [0]
    for retry in retries:
        if not Path(retry.launch.place).is_dir():
            raise InputError(f"{retry.launch.place}: the sweep was launched there, where its paths begin, and it is gone; make it again")
        environment = {**os.environ, "DSEL_OUTPUTS": retry.launch.outputs}
        codes.append(subprocess.run(retry.command(more), cwd=retry.launch.place, env=environment, check=False).returncode)
    return max(codes)


def _key(argument: str) -> str:
    return argument.lstrip("+~").partition("=")[0]
