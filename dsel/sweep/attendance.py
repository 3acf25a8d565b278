"""Who is at a cell: one process at a time, which says every few seconds how far it is."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from dsel.artifact import write_atomic
from dsel.progress import here

log = logging.getLogger("dsel")

RUNNING, LOCK = "running.json", ".running.lock"
BEAT_SECONDS = 5.0
SILENT_SECONDS = 12 * BEAT_SECONDS  # of a process on another host, after which it counts as dead


@dataclass(frozen=True)
class Sign:
    """What a process writes while it is at a cell; times are seconds since 1970, `share` is of the phase's work."""

    host: str
    pid: int
    started: float
    beat: float
    phase: str = ""
    share: float | None = None


@contextmanager
def attend(folder: Path) -> Iterator[None]:
    """Alone at the cell in `folder`, among all processes that see it; a killed one holds no lock. Says so in `running.json`."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log.info("%s: another process is at this cell; waiting", folder)
        lock.acquire()
    try:
        with _beating(folder / RUNNING):
            yield
    finally:
        lock.release()


@contextmanager
def _beating(path: Path) -> Iterator[None]:
    here.phase, started, done = "", time.time(), threading.Event()

    def sign() -> None:
        bar = here.bar
        now = Sign(socket.gethostname(), os.getpid(), started, time.time(), here.phase, None if bar is None else round(bar.share, 4))
        with suppress(OSError):  # a full disk must not end a run that may yet get by
            write_atomic(path, json.dumps(asdict(now)))

    def beat() -> None:
        while not done.wait(BEAT_SECONDS):
            sign()

    thread = threading.Thread(target=beat, daemon=True)
    try:  # from the first sign on: a Ctrl-C may come before the work has begun
        sign()
        thread.start()
        yield
    finally:
        done.set()
        if thread.ident is not None:
            thread.join()
        path.unlink(missing_ok=True)


def read_sign(folder: Path) -> Sign | None:
    """The newest sign of who is at the cell, or of who was when it was killed; None where there is none."""
    try:
        return Sign(**json.loads((folder / RUNNING).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def is_alive(folder: Path, sign: Sign) -> bool:
    """Whether the process that left `sign` is still at the cell: it holds the lock, or on another host, was heard of lately."""
    from filelock import FileLock, Timeout

    if sign.host != socket.gethostname():
        return time.time() - sign.beat < SILENT_SECONDS
    try:
        with FileLock(folder / LOCK, blocking=False):
            return False
    except (Timeout, OSError):
        return True
