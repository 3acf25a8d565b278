"""Progress of long work: a bar with a rate and an estimate in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

QUIET_SECONDS = 20.0  # between lines where there is no terminal


class Progress:
    """Counts `unit`s of work towards `total`."""

    def __init__(self, label: str, total: float, unit: str) -> None:
        self.label, self.total, self.unit = label, max(total, 1), unit
        self.done = 0.0
        self.started = self.shown = time.monotonic()
        self.note = ""

    @property
    def share(self) -> float:
        """How much of the work is done, in 0..1."""
        return min(1.0, self.done / self.total)

    def advance(self, amount: float, note: str = "") -> None:
        """Add `amount` of done work; `note` is shown behind it."""
        self.done += amount
        self.note = note or self.note
        now = time.monotonic()
        tty = sys.stderr.isatty()
        if now - self.shown >= (0.1 if tty else QUIET_SECONDS):
            self.shown = now
            sys.stderr.write(f"\r\x1b[2K{self.line()}" if tty else f"{self.line()}\n")
            sys.stderr.flush()

    def line(self) -> str:
        """One line: share, rate and time left."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        rate = self.done / seconds
        left = (self.total - self.done) / rate if rate else float("inf")
        bar = ("━" * round(24 * self.share)).ljust(24, "─")
        left_text = f"{int(left) // 60}:{int(left) % 60:02d} left" if left != float("inf") else "?"
        return f"{self.label:<12} {bar} {self.share:4.0%}  {rate:,.0f} {self.unit}/s  {left_text}  {self.note}".rstrip()


@dataclass
class Here:
    """What this process is at, for those who ask from outside (`dsel.sweep`): one run at a time is at work in a process."""

    phase: str = ""
    bar: Progress | None = None
    report: Callable[[str, int, float], None] | None = None  # of phase, step and loss, to a search; it may end the cell


here = Here()


@contextmanager
def progress(label: str, total: float, unit: str) -> Iterator[Progress]:
    """A `Progress` whose bar is wiped at the end; what is worth keeping is logged by the caller."""
    bar, outer = Progress(label, total, unit), here.bar
    here.bar = bar
    try:
        yield bar
    finally:
        here.bar = outer
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
