"""What a scan left: the scores of a stream's pieces, read a piece at a time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.functional.hashing import distinct
from dsel.phase.scan import INDEX
from dsel.pool import read_table

MOST_COUNTED = 1 << 25  # names that are in memory at once to count the different ones


@dataclass(frozen=True)
class Scored:
    """The scores that phase `score` of a run gave, in its artifact `folder`."""

    folder: Path

    @cached_property
    def pieces(self) -> list[dict[str, Any]]:
        """What is known of each piece, in order."""
        pieces: list[dict[str, Any]] = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))
        return pieces

    @property
    def documents(self) -> int:
        """How many have scores, repeats included."""
        return sum(piece["documents"] for piece in self.pieces)

    @cached_property
    def first_rows(self) -> npt.NDArray[np.int64]:
        """The number in the source of each piece's first row, and at the end how many rows there are."""
        return np.cumsum([0, *(piece["read"] for piece in self.pieces)])

    def dropped(self) -> dict[str, int]:
        """Rows that are no documents, by reason."""
        counts: Counter[str] = Counter()
        for piece in self.pieces:
            counts.update(piece["dropped"])
        return dict(counts)

    def listed(self) -> list[str]:
        """The first hundred of them."""
        return [line for piece in self.pieces for line in piece["listed"]][:100]

    def tables(self) -> Iterator[tuple[int, pa.Table]]:
        """Number and scores of each piece that has documents: `row`, `name`, `score_*`, and where known `length` and `domain`."""
        for number, piece in enumerate(self.pieces):
            if piece["documents"]:
                yield number, self.table(number)

    def table(self, number: int) -> pa.Table:
        """The scores of a piece, mapped into memory."""
        return read_table(self.folder.parent / self.pieces[number]["artifact"] / "scores.arrow")

    def take(self, units: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
        """The columns of documents, which are numbered through all tables, in the order of `units`; scores as `values` (unit, target)."""
        order = np.argsort(units, kind="stable")
        wanted, start, parts = units[order], 0, []
        for number, table in self.tables():
            a, b = np.searchsorted(wanted, [start, start + table.num_rows])
            if b > a:
                parts.append(columns_of(table.take(pa.array(wanted[a:b] - start)), number, self.first_rows))
            start += table.num_rows
        back = np.argsort(order, kind="stable")
        return {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}


def columns_of(table: pa.Table, number: int, first_rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
    """The table of piece `number` as arrays, with `piece`, `place` (row in the source) and `values` (unit, target)."""
    row = table["row"].to_numpy()
    columns = {
        "piece": np.full(len(row), number, np.int32),
        "row": row,
        "place": first_rows[number] + row,
        "name": table["name"].to_numpy(),
    }
    if "length" in table.column_names:
        columns["length"] = table["length"].to_numpy()
    return columns | {"values": score_values(table)}


def score_values(table: pa.Table) -> npt.NDArray[np.float32]:
    """The scores (unit, target) of a piece."""
    return np.stack([table[name].to_numpy() for name in table.column_names if name.startswith("score_")], axis=1)


def count_distinct(parts: Callable[[], Iterator[npt.NDArray[np.uint64]]], num_names: int) -> int:
    """How many different names there are, `MOST_COUNTED` of `num_names` in memory at a time: a pass over all for each."""
    passes, found = max(1, -(-num_names // MOST_COUNTED)), 0
    for number in range(passes):
        some = [part[part % np.uint64(passes) == number] for part in parts()]
        found += len(distinct(np.concatenate(some))) if some else 0
    return found
