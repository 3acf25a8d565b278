"""The cells of a sweep that is being run: which are still to do when something went wrong."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dsel.outcome import FAILED, RESULT, write_failure
from dsel.sweep.attendance import RUNNING, Sign, is_alive, read_sign
from dsel.sweep.plan import read_plan

log = logging.getLogger("dsel")

STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Cells:
    """Of the sweep in `folder`, launched at `started` (seconds since 1970)."""

    folder: Path
    started: float
    fail_fast: bool = False

    def after_crash(self, names: Sequence[str], error: Exception) -> list[str]:
        """Those of the cells that have not begun, once no other is at work; what was killed is written down as failed. None where one
        failure is to end the sweep."""
        while any(self._is_running(name) for name in names):
            time.sleep(0.5)
        died = [name for name in names if (self.folder / name / RUNNING).is_file()]
        for name in died:
            sign = read_sign(self.folder / name)
            where = f" in {sign.phase}" if sign and sign.phase else ""
            cause = f"its process was killed{where} ({type(error).__name__}); out of memory, perhaps"
            log.warning("%s: %s", name, cause)
            write_failure(self.folder / name, [name], cause, str(error))
            (self.folder / name / RUNNING).unlink(missing_ok=True)
        return [] if self.fail_fast and died else [name for name in names if not self._has_ended(name)]

    def stop(self) -> None:
        """Ask what still runs on this machine to end, as if Ctrl-C had been typed there as well, and what does not hear that (in the
        background of a script it is ignored) more firmly."""
        mine = {
            place: sign for path in self.folder.rglob(RUNNING) if (sign := read_sign(place := path.parent)) and self._is_mine(place, sign)
        }
        for number in (signal.SIGINT, signal.SIGTERM):
            left = {place: sign for place, sign in mine.items() if is_alive(place, sign)}
            for sign in left.values():
                os.kill(sign.pid, number)
            until = time.time() + STOP_SECONDS
            while any(is_alive(place, sign) for place, sign in left.items()) and time.time() < until:
                time.sleep(0.1)

    def _is_mine(self, place: Path, sign: Sign) -> bool:
        """Whether another process of this machine is at the cell since this launch."""
        here = sign.host == socket.gethostname() and sign.pid != os.getpid()
        return here and sign.started >= self.started and is_alive(place, sign)

    def _is_running(self, name: str) -> bool:
        sign = read_sign(self.folder / name)
        return sign is not None and is_alive(self.folder / name, sign)

    def _has_ended(self, name: str) -> bool:
        """Whether the cell has a result or a failure of this launch."""
        paths = (self.folder / name / RESULT, self.folder / name / FAILED)
        return any(path.is_file() and path.stat().st_mtime >= self.started for path in paths)


def has_failed_since_launch(folder: Path) -> bool:
    """Whether a cell of the sweep in `folder` failed since its newest launch."""
    plan = read_plan(folder)
    since = plan.launches[-1].started if plan and plan.launches else 0.0
    return any(path.stat().st_mtime >= since for path in folder.rglob(FAILED))
