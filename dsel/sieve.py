"""What becomes of rows that are no documents: an error, or counted by reason and listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dsel.error import InputError
from dsel.functional.hashing import hash_texts, hex_names
from dsel.pool import ID, TEXT

OnBadRow = Literal["fail", "skip"]
MAX_LISTED = 100


@dataclass(frozen=True)
class Bad:
    """A row that is no document: where it stands, why in one word (counted), and why in a few (shown)."""

    file: str
    number: int  # of its line, from 1; where there are no lines of its row, from 0
    reason: str
    detail: str
    in_line: bool = True

    @property
    def where(self) -> str:
        """The place as the user would look it up."""
        return f"{self.file}:{self.number}" if self.in_line else f"{self.file} row {self.number}"


@dataclass
class Sieve:
    """What becomes of one side's bad rows: an error, or counted by reason and the first hundred listed."""

    side: str
    on_bad_row: OnBadRow = "fail"
    num_read: int = 0
    num_bad: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    listed: list[str] = field(default_factory=list)

    def drop(self, bad: Sequence[Bad]) -> None:
        """Errors: any bad row, unless `on_bad_row` is skip."""
        if bad and self.on_bad_row == "fail":
            more = f" ({len(bad) - 1} more bad rows)" if len(bad) > 1 else ""
            raise InputError(f"{bad[0].where}: {bad[0].detail}{more}; mend it, or set data.on_bad_row=skip to drop such rows")
        self.num_bad += len(bad)
        self.dropped.update(b.reason for b in bad)
        self.listed += [f"{b.where} {b.reason}" for b in bad[: MAX_LISTED - len(self.listed)]]

    def accept(self, num_bad: int, listed: Sequence[str]) -> None:
        """Take what an earlier run made of rows of which it skipped some. Errors: any, unless `on_bad_row` is skip."""
        if num_bad and self.on_bad_row == "fail":
            raise InputError(f"{listed[0]}: bad row ({num_bad - 1} more); mend it, or set data.on_bad_row=skip to drop such rows")

    def drop_short(self, table: pa.Table, min_characters: int) -> pa.Table:
        """Of rows that are not empty, those of at least `min_characters` characters; the others are counted, and never an error."""
        if min_characters <= 1:
            return table
        keep = pc.greater_equal(pc.utf8_length(table[TEXT]), min_characters)
        if pc.all(keep).as_py():
            return table
        kept = table.filter(keep)
        self.dropped["short"] += table.num_rows - kept.num_rows
        return kept

    def thin(self, table: pa.Table, limit: int | None, seed: int) -> pa.Table:
        """A random part of `limit` rows, drawn by `seed` and the id (where there is none, the text); the others are counted."""
        if limit is None or table.num_rows <= limit:
            return table
        self.dropped["over_limit"] += table.num_rows - limit
        named = ID in table.column_names and not table[ID].null_count
        ranks = np.argsort(draw(table[ID if named else TEXT].to_pylist(), seed), kind="stable")
        return table.take(pa.array(np.sort(ranks[:limit])))

    def finish(self, table: pa.Table, where: str) -> pa.Table:
        """The table with no null id (a text's hash stands in). Errors: no document left."""
        if table.num_rows == 0:
            why = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items()) or "none read"
            or_lower = " or lower data.min_characters" * bool(self.dropped["short"])
            raise InputError(f"{self.side}={where}: no documents left (dropped: {why}); give {self.side}= other data{or_lower}")
        if ID in table.column_names and table[ID].null_count:
            if f"{ID}_original" not in table.column_names:
                table = table.append_column(f"{ID}_original", table[ID])
            return fill_ids(table, hash_texts(table[TEXT]))
        return table


def fill_ids(table: pa.Table, names: npt.NDArray[np.uint64]) -> pa.Table:
    """The table with an `id` in every row: where there is none, the text's hash, which `names` gives."""
    if ID in table.column_names and not table[ID].null_count:
        return table
    if ID not in table.column_names:
        return table.append_column(ID, hex_names(names))
    return table.set_column(table.column_names.index(ID), ID, pc.coalesce(table[ID], hex_names(names)))


def draw(keys: Sequence[str], seed: int) -> npt.NDArray[np.uint64]:
    """A number by key, the same in every process, unrelated between seeds: a document's luck does not hang on the others."""
    import pandas as pd

    values = np.asarray(keys, dtype=object)
    return np.asarray(pd.util.hash_array(values, hash_key=f"{seed:016d}", categorize=False), dtype=np.uint64)
