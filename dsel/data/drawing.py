"""A random part of a stream of documents, drawn by their texts: the same in whatever order and pieces they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.data.files import unify
from dsel.functional.hashing import distinct, hash_texts, remix
from dsel.pool import NAME, TEXT

NONE = np.empty(0, np.uint64)


@dataclass
class Drawing:
    """Keeps the `count` documents of the most luck, of each text the first that is added. Luck is a number by text and seed; the
    smallest win. At most twice `count` documents are held."""

    count: int
    seed: int
    _kept: list[pa.Table] = field(default_factory=list)
    _lucks: npt.NDArray[np.uint64] = field(default_factory=NONE.copy)  # the smallest so far, ascending, each once

    @property
    def num_drawn(self) -> int:
        """Documents so far, at most `count`."""
        return len(self._lucks)

    def sift(self, table: pa.Table) -> pa.Table:
        """The documents that may yet be drawn, with `dsel_name`. May be called by many threads."""
        luck = self._luck(names := hash_texts(table[TEXT]))
        table = table.append_column(NAME, pa.array(names))
        lucks = self._lucks  # others replace it meanwhile
        return table.filter(pa.array(luck <= lucks[-1])) if len(lucks) == self.count else table

    def add(self, tables: Sequence[pa.Table]) -> None:
        """Take in what `sift` left."""
        new = [table for table in tables if table.num_rows]
        self._kept += new
        self._lucks = distinct(np.concatenate([self._lucks, *(self._luck(table[NAME].to_numpy()) for table in new)]))[: self.count]
        if sum(table.num_rows for table in self._kept) > 2 * self.count:
            self._kept = [self._best()]

    def finish(self) -> pa.Table:
        """What was drawn, in the order in which it was added."""
        return self._best().drop_columns([NAME]) if self._kept else pa.table({TEXT: pa.array([], pa.string())})

    def _luck(self, names: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        return remix(names, self.seed)

    def _best(self) -> pa.Table:
        table = unify(self._kept, ["source"] * len(self._kept))
        names, first = np.unique(table[NAME].to_numpy(), return_index=True)
        best = np.argsort(self._luck(names), kind="stable")[: self.count]
        drawn = np.zeros(table.num_rows, dtype=bool)
        drawn[first[best]] = True
        return table.filter(pa.array(drawn))
