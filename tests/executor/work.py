"""Works for the tests of executors. A module of its own, which the workers can import fast."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.error import InputError
from dsel.pool import TEXT


@dataclass(frozen=True)
class Work:
    """Hands the item on, item 0 last of all. Fails on item `bad`; kills its own process on item `kill`, once."""

    folder: Path
    bad: int = -1
    kill: int = -1

    def __call__(self, item: int) -> pa.Table:
        """A table, as `Pick` returns."""
        time.sleep(1.0 if item == 0 else 0.0)
        if item == self.bad:
            raise InputError(f"piece {item}: broken; mend it")
        if item == self.kill and not (self.folder / "killed").exists():
            (self.folder / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return pa.table({"item": [item], "threads": [os.environ["OMP_NUM_THREADS"]]})


@dataclass(frozen=True)
class NotFinite:
    """A scorer whose scores are not finite where the text holds `word`."""

    word: str = ""

    reads = (TEXT,)

    def fit(self, *_: Any) -> NotFinite:
        """Nothing to look at."""
        return self

    def __call__(self, batch: pa.Table) -> npt.NDArray[np.float32]:
        """Scores (unit, 1)."""
        return np.array([[np.nan if self.word in text else 1.0] for text in batch[TEXT].to_pylist()], dtype=np.float32)
