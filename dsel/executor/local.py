"""Scoring on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsel.error import InputError
from dsel.pool import Pool
from dsel.progress import progress
from dsel.protocol import FittedScore


@dataclass(frozen=True)
class Local:
    """Shards of `shard_size` units, on `num_workers` threads: torch, numpy and scikit-learn leave the interpreter's lock.

    Shards are the same for any number of workers, and so is the result. Only the shards under way are in memory.
    """

    num_workers: int = 1
    shard_size: int = 4096

    def __post_init__(self) -> None:
        for key in ("num_workers", "shard_size"):
            if getattr(self, key) < 1:
                raise InputError(f"executor.{key}={getattr(self, key)}: must be at least 1")

    def map(self, score: FittedScore, pool: Pool, columns: Sequence[str], label: str) -> npt.NDArray[np.float32]:
        """Scores (unit, target) of the whole pool, in its order."""
        table = pool.table.select(list(columns))
        shards = [table.slice(start, self.shard_size) for start in range(0, len(pool), self.shard_size)]
        parts: list[npt.NDArray[np.float32]] = []
        with progress(label, len(pool), "documents") as bar:
            if self.num_workers == 1:
                for shard in shards:
                    parts.append(score(shard))
                    bar.advance(len(shard))
                return np.concatenate(parts)
            with ThreadPoolExecutor(self.num_workers) as workers:
                for part in workers.map(score, shards):
                    parts.append(part)
                    bar.advance(len(part))
        return np.concatenate(parts)
