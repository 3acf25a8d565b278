"""The examples whose predictions are asked about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from dsel.context import World
from dsel.error import InputError
from dsel.functional.ranking import keyed_uniform
from dsel.pool import ID, PLANTED, ROW, TGT, Pool, fingerprint_table
from dsel.protocol import Data

MOST_CLASSES = 64  # answers that are taken for classes, if each stands in training often


@dataclass(frozen=True)
class Asking:
    """A phase that asks about `queries`: a part of the corpus by name, "planted" for the target's documents that are hidden in the source,
    or data of one's own; about at most `num_queries` of them, by a fixed draw from ids."""

    queries: str | Data = "test"
    num_queries: int | None = 20

    def identity(self) -> Any:
        """The queries' own data."""
        return None if isinstance(self.queries, str) else self.queries.identity()

    def query_pool(self, world: World) -> Pool:
        """The queries, with tokens. Errors: none; one that is longer than the model's context allows; a class that training never saw."""
        if self.num_queries is not None and self.num_queries < 1:
            raise InputError(f"phases.{world.name}.num_queries={self.num_queries}: must be at least 1")
        pool = _own(self.queries) if not isinstance(self.queries, str) else _part(self.queries, world)
        if len(pool) == 0:
            raise InputError(f"phases.{world.name}.queries={self.queries}: there are none; give another part, or data of your own")
        if self.num_queries is not None and len(pool) > self.num_queries:
            pool = pool.take(np.sort(np.argsort(keyed_uniform(pool.ids(), 0), kind="stable")[: self.num_queries]))
        pool = world.tokenized(pool)
        _refuse_long(pool, world)
        _refuse_unknown_classes(pool, world)
        return pool


def _part(name: str, world: World) -> Pool:
    if name == "planted":
        marks = world.corpus.source.table[PLANTED].to_numpy(zero_copy_only=False).astype(bool)
        return world.corpus.source.take(np.flatnonzero(marks), "planted")
    if name not in world.corpus.pools():
        raise InputError(f"phases.{world.name}.queries={name}: must be planted, one of {', '.join(world.corpus.pools())}, or data")
    return world.corpus.pools()[name]


def _own(data: Data) -> Pool:
    table = data.read().target
    if ID not in table.column_names:
        table = table.append_column(ID, pa.array([f"query-{row}" for row in range(table.num_rows)]))
    table = table.set_column(table.column_names.index(ID), ID, table[ID].cast(pa.string()))
    return Pool("queries", table, fingerprint_table(table))


def _refuse_long(pool: Pool, world: World) -> None:
    assert world.model is not None
    cut = [row for row in range(len(pool)) if world.objective.num_cut(pool.table.slice(row, 1), world.model.context)]
    if cut:
        row = pool.table.slice(cut[0], 1)
        raise InputError(
            f"phases.{world.name}.queries: row {row[ROW][0].as_py()}, id {row[ID][0].as_py()!r} ({len(cut)} such queries): has a side "
            f"longer than the model's context of {world.model.context} tokens, and would be judged by a part of it; shorten it"
        )


def _refuse_unknown_classes(pool: Pool, world: World) -> None:
    """Where answers are classes, of which training has few."""
    if TGT not in pool.table.column_names or TGT not in world.corpus.finetune.table.column_names:
        return
    known = world.corpus.finetune.table[TGT].value_counts().to_pylist()
    if not known or len(known) > MOST_CLASSES or 4 * len(known) > len(world.corpus.finetune):
        return
    names = {each["values"] for each in known}
    for row in pool.table.select([ROW, ID, TGT]).to_pylist():
        if row[TGT] not in names:
            raise InputError(
                f"phases.{world.name}.queries: row {row[ROW]}, id {row[ID]!r}: the label {row[TGT]!r} is none that training saw "
                f"({', '.join(sorted(map(str, names))[:8])}); correct it, or train on such examples"
            )
