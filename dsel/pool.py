"""What may be chosen: a named, Arrow-backed table of units, and how much of it may be taken."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dsel.error import InputError

TEXT = "text"
ID = "id"
DOMAIN = "domain"
TASK = "task"  # of a unit, where units belong to tasks
ROW = "dsel_row"  # row of the unit in the file, or list, that the user gave
PLANTED = "dsel_planted"  # true for target documents that were hidden in the pool on purpose
NAME = "dsel_name"  # the hash of the text as it was scored
SRC, TGT = "src", "tgt"  # the sides of a pair; `text` then holds both
SOURCE_TOKENS = "dsel_source_tokens"
SECOND = "dsel_second"  # the second text of a question that is two, which `src` ends with behind a line break; else null
KIND = "dsel_kind"  # of a task's answers: CLASSES or NUMBERS
CLASSES, NUMBERS = "classes", "numbers"
NOISE = "dsel_noise"  # the kind of planted noise, null where a pair is right
TOKENS = "dsel_tokens"  # token ids, added by `dsel.tokens.tokenize`


@dataclass(frozen=True)
class Pool:
    """A list of units in a fixed order.

    `table` is memory-mapped where it comes from disk, so its size is not bound by memory. Columns: `text`, `id`,
    `dsel_row`, and where known `domain`, `dsel_planted`, `dsel_tokens` and whatever else the user's rows carry.
    """

    name: str
    table: pa.Table
    fingerprint: str

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def take(self, rows: npt.NDArray[np.int64], name: str | None = None) -> Pool:
        """The units at `rows`, in that order; repeats allowed."""
        mark = hashlib.blake2b(np.ascontiguousarray(rows, dtype=np.int64).tobytes(), digest_size=8).hexdigest()
        return Pool(name or self.name, self.table.take(pa.array(rows)), f"{self.fingerprint}[{mark}]")

    def without_noise(self) -> Pool:
        """The units into which no noise was planted; the pool itself where nobody planted any."""
        if NOISE not in self.table.column_names:
            return self
        return self.take(np.flatnonzero(self.table[NOISE].is_null().to_numpy()))

    def tasks(self) -> tuple[list[str], npt.NDArray[np.int64]]:
        """Names of the tasks, sorted, and the number of each unit's (unit,). Errors: the pool has no tasks."""
        if TASK not in self.table.column_names:
            raise InputError(
                f"{self.name}: its units belong to no tasks; give data=addition, doc_tasks, doc_labels, task_files, task_hub or "
                "labelled_tasks"
            )
        names, numbers = np.unique(self.table[TASK].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
        return names.tolist(), numbers.astype(np.int64)

    def by_task(self) -> dict[str, Pool]:
        """The units of each task, by its name, sorted. Errors: the pool has no tasks."""
        names, numbers = self.tasks()
        return {name: self.take(np.flatnonzero(numbers == number), name) for number, name in enumerate(names)}

    def ids(self) -> npt.NDArray[np.object_]:
        """The units' ids, as strings, in order."""
        ids: npt.NDArray[np.object_] = self.table[ID].to_numpy(zero_copy_only=False)
        return ids

    def token_counts(self) -> npt.NDArray[np.int64]:
        """Number of tokens of each unit; needs the `dsel_tokens` column."""
        lengths: npt.NDArray[np.int64] = pc.list_value_length(self.table[TOKENS]).to_numpy().astype(np.int64)
        return lengths


def write_table(table: pa.Table, path: Path) -> None:
    """Write an Arrow file that `read_table` maps into memory."""
    write_batches(table.schema, table.to_batches(max_chunksize=65_536), path)


def write_batches(schema: pa.Schema, batches: Iterable[pa.RecordBatch], path: Path) -> None:
    """The same from batches that are never in memory together."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def read_table(path: Path) -> pa.Table:
    """Map the Arrow file at `path`; nothing is read until it is used."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def fingerprint_table(table: pa.Table) -> str:
    """A hash of the schema and contents of `table`, independent of its chunks."""
    digest = hashlib.blake2b(str(table.schema.remove_metadata()).encode(), digest_size=16)
    if table.nbytes != table.get_total_buffer_size():  # a slice, whose buffers hold more than it does
        table = table.take(pa.array(np.arange(table.num_rows)))
    for batch in table.combine_chunks().to_batches():
        for column in batch.columns:
            for buffer in column.buffers():
                digest.update(b"|" if buffer is None else memoryview(buffer))
    return digest.hexdigest()


@dataclass(frozen=True)
class Budget:
    """How much may be selected: exactly one of `units`, `fraction` (of the pool's units) and `tokens`."""

    units: int | None = None
    fraction: float | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        given = {k: v for k, v in vars(self).items() if v is not None}
        if len(given) != 1:
            said = ", ".join(f"budget.{k}={v}" for k, v in given.items()) or "none"
            raise InputError(f"budget: give exactly one of units, fraction, tokens; got {said}; set the others to null")
        (key, value), integral = next(iter(given.items())), self.fraction is None
        if isinstance(value, bool) or not isinstance(value, int if integral else (int, float)):
            raise InputError(f"budget.{key}={value!r}: expected {'a whole number' if integral else 'a number'}")
        if value <= 0 or (key == "fraction" and value > 1):
            raise InputError(f"budget.{key}={value}: must be above 0" + (" and at most 1" if key == "fraction" else ""))

    def count(self, num_units: int) -> int | None:
        """Number of units allowed of a pool of `num_units`; None where tokens decide. Errors: more than the pool has."""
        if self.units is not None:
            if self.units > num_units:
                raise InputError(
                    f"budget.units={self.units} is over the pool's size of {num_units} units; "
                    f"set budget.units to {num_units} or less, or budget.fraction=1"
                )
            return self.units
        if self.fraction is not None:
            return max(1, round(self.fraction * num_units))
        return None

    def count_tasks(self, num_tasks: int) -> int:
        """Number of tasks allowed, where a task is the unit. Errors: more than there are, or a budget of tokens."""
        if self.tokens is not None:
            raise InputError(f"budget.tokens={self.tokens}: tasks are counted; give budget.units (tasks) or budget.fraction")
        if self.units is not None and self.units > num_tasks:
            raise InputError(f"budget.units={self.units}: there are {num_tasks} tasks; set it to that or less, or budget.fraction=1")
        return self.units if self.units is not None else max(1, round(float(self.fraction or 0) * num_tasks))

    def cut(self, order: npt.NDArray[np.int64], num_units: int, lengths: npt.NDArray[np.int64] | None = None) -> int:
        """How many of the units in `order` (best first) fit; `lengths` are tokens per unit of the pool."""
        count = self.count(num_units)
        if count is not None:
            return min(count, len(order))
        assert lengths is not None
        assert self.tokens is not None
        total = int(lengths.sum())
        if self.tokens > total:
            raise InputError(f"budget.tokens={self.tokens} is over the pool's size of {total} tokens; set it lower")
        return max(1, int(np.searchsorted(np.cumsum(lengths[order]), self.tokens, side="right")))
