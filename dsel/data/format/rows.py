"""What a format's parser gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.sieve import Bad

Before = Callable[[], int]
"""How many lines of the file stand before those that are parsed: asked only where a place must be named. `int` itself, which
gives 0, says that the whole file is parsed."""


@dataclass(frozen=True)
class Rows:
    """One file's rows: the readable ones in `table`, their 0-based numbers among all `num_read` rows in `numbers`."""

    table: pa.Table
    numbers: npt.NDArray[np.int64]
    num_read: int
    bad: Sequence[Bad] = ()

    @classmethod
    def whole(cls, table: pa.Table) -> Rows:
        """All rows of `table`, none bad."""
        return cls(table, np.arange(table.num_rows, dtype=np.int64), table.num_rows)


def read_in_blocks(read: Callable[[int], pa.Table], num_bytes: int) -> pa.Table:
    """`read(block_size)` with blocks for many threads, or, where a row is longer than one, a single block."""
    usual = 1 << 24
    try:
        return read(usual)
    except pa.ArrowInvalid:
        if num_bytes <= usual:
            raise
        return read(min(num_bytes + 1, 2**31 - 1))
