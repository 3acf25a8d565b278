"""A pool in memory as a stream: what reads streams works on any data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.artifact import fingerprint
from dsel.pool import DOMAIN, ID, PLANTED, ROW, TEXT, Pool
from dsel.sieve import Sieve

ROWS_PER_PIECE = 4096


@dataclass(frozen=True)
class Slice:
    """Rows `start` to `stop` of a pool."""

    path: str
    start: int
    stop: int
    num_bytes: int
    key: str


@dataclass(frozen=True)
class PoolStream:
    """The documents of a pool, some thousand a piece. Nothing is left to sift: that was done when the pool was made."""

    pool: Pool

    @property
    def fingerprint(self) -> str:
        """The pool's."""
        return self.pool.fingerprint

    @property
    def pieces(self) -> Sequence[Slice]:
        """Slices of the pool, in order."""
        starts, bytes_a_row = range(0, len(self.pool), ROWS_PER_PIECE), self.pool.table[TEXT].nbytes / max(len(self.pool), 1)
        bounds = [(start, min(start + ROWS_PER_PIECE, len(self.pool))) for start in starts]
        return [Slice(self.pool.name, a, b, round((b - a) * bytes_a_row), fingerprint(self.fingerprint, a, b)) for a, b in bounds]

    def sieve(self) -> Sieve:
        """An empty one."""
        return Sieve("source")

    def read(self, piece: Slice, sieve: Sieve) -> Iterator[pa.Table]:
        """The rows of the slice, numbered from its beginning."""
        sieve.num_read += piece.stop - piece.start
        table = self.pool.table.slice(piece.start, piece.stop - piece.start)
        table = table.select([name for name in (TEXT, ID, DOMAIN, PLANTED) if name in table.column_names])
        yield table.append_column(ROW, pa.array(np.arange(table.num_rows, dtype=np.int64)))

    def rows(self, piece: Slice) -> Iterator[tuple[npt.NDArray[np.int64], pa.Table]]:
        """The rows of the slice without what `dsel` added, and their numbers in it."""
        table = self.pool.table.slice(piece.start, piece.stop - piece.start)
        yield np.arange(table.num_rows, dtype=np.int64), table.select([n for n in table.column_names if not n.startswith("dsel_")])
