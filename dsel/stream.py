"""A pool in memory as a stream: what reads streams works on any data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.artifact import fingerprint
from dsel.functional.hashing import hash_texts
from dsel.pool import DOMAIN, ID, NAME, PLANTED, ROW, TEXT, Pool
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
    """The documents of a pool, some thousand a piece. Nothing is left to sift: that was done when the pool was made.

    `columns` says where the user's columns stand in the pool, by their own names (None: all but ours are the user's).
    """

    pool: Pool
    columns: Mapping[str, str] | None = None

    reading = ""

    @property
    def pieces(self) -> Sequence[Slice]:
        """Slices of the pool, in order."""
        starts, bytes_a_row = range(0, len(self.pool), ROWS_PER_PIECE), self.pool.table[TEXT].nbytes / max(len(self.pool), 1)
        bounds = [(start, min(start + ROWS_PER_PIECE, len(self.pool))) for start in starts]
        return [Slice(self.pool.name, a, b, round((b - a) * bytes_a_row), fingerprint(self.pool.fingerprint, a, b)) for a, b in bounds]

    def sieve(self) -> Sieve:
        """An empty one."""
        return Sieve("source")

    def read(self, piece: Slice, sieve: Sieve) -> Iterator[pa.Table]:
        """The rows of the slice, numbered from its beginning."""
        sieve.num_read += piece.stop - piece.start
        table = self.pool.table.slice(piece.start, piece.stop - piece.start)
        table = table.select([name for name in (TEXT, ID, DOMAIN, PLANTED) if name in table.column_names])
        yield table.append_column(ROW, pa.array(np.arange(table.num_rows, dtype=np.int64)))

    def rows(self, piece: Slice, wanted: npt.NDArray[np.int64]) -> Iterator[pa.Table]:
        """These rows of the slice with the user's columns, `dsel_name`, and `dsel_row` as the file or list that was read counts."""
        table = self.pool.table.take(pa.array(piece.start + wanted))
        given = {name: name for name in table.column_names if not name.startswith("dsel_")} if self.columns is None else self.columns
        told = {ROW: table[ROW], NAME: pa.array(hash_texts(table[TEXT]))}
        yield pa.table({name: table[stored] for name, stored in given.items()} | told)

    def texts(self, piece: Slice, wanted: npt.NDArray[np.int64]) -> Iterator[pa.ChunkedArray]:
        """The texts of these rows of the slice."""
        yield self.pool.table[TEXT].take(pa.array(piece.start + wanted))
