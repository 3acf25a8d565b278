"""The report of a sweep that runs: served on this machine only, built anew when a cell is done, with the state of all cells."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from dsel.error import InputError
from dsel.outcome import RESULT
from dsel.report.content import gather
from dsel.report.page import render
from dsel.report.results import read_sweep
from dsel.report.script import bundle
from dsel.report.template import fill
from dsel.sweep.plan import SWEEP
from dsel.sweep.status import read_status

SECONDS = 2.0  # between two looks at the folder
SHOWN = ("running", "failed", "died")  # the states whose cells are listed one by one
Event = tuple[str, str]


class Watch:
    """The newest page and state of the sweep in `folder`. `look` brings them up to date; `events` waits for what is new."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version, self.status, self.page = "", "", b""
        self.changed = threading.Condition()
        self.stopped = threading.Event()

    def look(self) -> None:
        """Read the folder, and build the page anew where its results are others than the page's."""
        version, status = _version(self.folder), _status(self.folder)
        page = self.page if version == self.version else self._build(version)
        with self.changed:
            news = (version, status) != (self.version, self.status)
            self.version, self.status, self.page = version, status, page
            if news:
                self.changed.notify_all()

    def _build(self, version: str) -> bytes:
        try:
            return render(gather(read_sweep(self.folder), images=False), live=version).encode()
        except InputError as error:  # most often: no cell is done yet
            values = {"title": self.folder.name, "said": str(error), "script": bundle("live"), "live": version}
            return fill("waiting.html.jinja", "app/style.css", **values).encode()

    def events(self, patience: float = 15.0) -> Iterator[list[Event]]:
        """Version of the page and state of the sweep whenever one of them is new; nothing new after `patience` seconds."""
        known: dict[str, str] = {}
        while not self.stopped.is_set():
            with self.changed:
                now = {"page": self.version, "status": self.status}
                if now == known:
                    self.changed.wait(patience)
                    now = {"page": self.version, "status": self.status}
            yield [(name, value) for name, value in now.items() if value and value != known.get(name)]
            known = now

    @contextmanager
    def going(self) -> Iterator[None]:
        """Look at the folder every SECONDS, beside whatever is done inside."""
        thread = threading.Thread(target=self._go_on, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.stopped.set()
            with self.changed:
                self.changed.notify_all()
            thread.join(SECONDS)

    def _go_on(self) -> None:
        while not self.stopped.wait(SECONDS):
            self.look()


def _version(folder: Path) -> str:
    """Another one when a result is added, changed or taken away."""
    seen = []
    for path in sorted(folder.rglob(RESULT)):
        try:
            state = path.stat()
        except OSError:  # it has just been taken away, to be made anew
            continue
        seen.append((str(path), state.st_mtime_ns, state.st_size))
    return sha256(repr(seen).encode()).hexdigest()[:16]


def _status(folder: Path) -> str:
    """As JSON: counts, seconds left, and the cells that run or went wrong; nothing where no sweep has left its plan."""
    if not (folder / SWEEP).is_file():
        return ""
    try:
        status = read_status(folder)
    except InputError:  # being written, or none of ours
        return ""
    shown: list[dict[str, Any]] = [asdict(cell) for cell in status.cells if cell.state in SHOWN]
    for cell in shown:
        cell["seconds"] = None if cell["seconds"] is None else round(cell["seconds"])
    left = status.seconds_left
    return json.dumps({"counts": status.counts, "seconds_left": None if left is None else round(left), "cells": shown})
