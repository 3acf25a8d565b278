"""A stream whose pieces are read in blocks of rows: from rows to documents, and back to the rows that were chosen."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.artifact import fingerprint
from dsel.data.format.piece import Block
from dsel.data.text import Columns, without
from dsel.error import InputError
from dsel.functional.hashing import hash_texts
from dsel.pool import DOMAIN, ID, NAME, ROW, TEXT
from dsel.sieve import OnBadRow, Sieve


@dataclass(frozen=True)
class BlockStream:
    """All of a stream but `blocks`, which says how a piece is read."""

    pieces: Sequence[Any]
    columns: Columns
    min_characters: int
    max_characters: int | None
    on_bad_row: OnBadRow

    def blocks(self, piece: Any, only: Collection[str] = ()) -> Iterator[Block]:
        """The rows of a piece; no more than the columns `only` need be there, if they are given."""
        raise NotImplementedError

    def sieve(self) -> Sieve:
        """A new one, for the bad rows of a piece."""
        return Sieve("source", self.on_bad_row)

    @property
    def reading(self) -> str:
        """Of all that decides what becomes of a good row."""
        return fingerprint(vars(self.columns), self.min_characters, self.max_characters)

    def read(self, piece: Any, sieve: Sieve) -> Iterator[pa.Table]:
        """The documents of a piece. Errors: see `blocks`; no row with a text column; a bad row, unless the sieve skips them."""
        text, lacking, num_with = self.columns.text, None, 0
        for block in self.blocks(piece, self.columns.names):
            rows = block.rows
            sieve.num_read += rows.num_read
            sieve.drop(rows.bad)
            if rows.table.num_rows == 0:
                continue
            if text not in rows.table.column_names:  # of lines of JSON, others may have it: each is as good as empty
                bad = block.bad(rows.numbers, "empty", f"no {text!r}")
                lacking = lacking or self.columns.lacking(rows.table.column_names, bad[0].where)
                if sieve.on_bad_row == "fail":
                    raise lacking
                sieve.drop(bad)
                continue
            num_with += rows.num_read
            table = self._documents(block, sieve)
            yield table.select([name for name in (TEXT, ID, DOMAIN, ROW) if name in table.column_names])
        if lacking and not num_with:
            raise lacking

    def _documents(self, block: Block, sieve: Sieve) -> pa.Table:
        table = self.columns.expose(block.rows.table, str(block.path))
        empty = self.columns.empty_rows(table)
        sieve.drop(block.bad(block.rows.numbers[empty], "empty", f"{self.columns.text!r} is empty"))
        table = without(table.append_column(ROW, pa.array(block.rows.numbers)), empty)
        return self.columns.cut(sieve.drop_short(table, self.min_characters), self.max_characters)

    def names(self, piece: Any) -> list[str]:
        """The columns of its first rows."""
        return next((block.rows.table.column_names for block in self.blocks(piece)), [])

    def rows(self, piece: Any, wanted: npt.NDArray[np.int64]) -> Iterator[pa.Table]:
        """These rows of the piece (ascending) as they are in the file, without what `dsel` wrote into it before, with `dsel_name`.

        Errors: see `blocks`; a wanted row is not there any more, or has columns that cannot be read.
        """
        left = wanted
        for block in self.blocks(piece):
            if not len(left):
                return
            here = left[: np.searchsorted(left, block.first + block.rows.num_read)]
            left = left[len(here) :]
            if not len(here):
                continue
            _refuse_unreadable(block, here)
            table = block.rows.table.take(pa.array(np.searchsorted(block.rows.numbers, here)))
            names = hash_texts(self.columns.cut(self.columns.expose(table, piece.path), self.max_characters)[TEXT])
            yield table.select([name for name in table.column_names if not name.startswith("dsel_")]).append_column(NAME, pa.array(names))
        if len(left):
            raise InputError(f"{piece.path}: {len(left)} rows that were scored are gone; bring them back, or run again")

    def texts(self, piece: Any, wanted: npt.NDArray[np.int64]) -> Iterator[pa.ChunkedArray]:
        """The texts of these rows of the piece (ascending), cut as `read` cuts them. Errors: see `blocks`."""
        for block in self.blocks(piece, (self.columns.text,)):
            here = np.isin(block.rows.numbers, wanted)
            if here.any():
                table = self.columns.expose(block.rows.table.filter(pa.array(here)), str(block.path))
                yield self.columns.cut(table, self.max_characters)[TEXT]
            if block.first + block.rows.num_read > wanted[-1]:
                return


def _refuse_unreadable(block: Block, wanted: npt.NDArray[np.int64]) -> None:
    """Errors: a wanted row is bad now that all columns are read."""
    lost = wanted[~np.isin(wanted, block.rows.numbers)]
    if len(lost):
        (place,) = block.bad(lost[:1], "", "")
        why = next((bad.detail for bad in block.rows.bad if bad.number == place.number), "it is gone")
        raise InputError(f"{place.where}: is chosen, and cannot be read with all its columns: {why}; mend it and run again")
