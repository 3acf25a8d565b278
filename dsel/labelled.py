"""Tasks whose answers are classes or numbers: what an encoder is tuned on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dsel.error import InputError
from dsel.pool import CLASSES, ID, KIND, NUMBERS, SECOND, SRC, TGT, Pool

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LabelledTask:
    """Rows of one task: `first` and, where rows are pairs of texts, `second` (row,); `labels` (row,), numbers of `classes` or, where there
    are no classes, what a regression is to find; `ids` (row,)."""

    name: str
    first: Sequence[str]
    second: Sequence[str | None] | None
    labels: npt.NDArray[np.int64] | npt.NDArray[np.float64]
    classes: Sequence[str]
    ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.first)

    @property
    def is_regression(self) -> bool:
        """Whether labels are numbers to find, not classes."""
        return not self.classes

    @property
    def num_outputs(self) -> int:
        """Of a model's head."""
        return len(self.classes) or 1

    @cached_property
    def fingerprint(self) -> str:
        """Changes with texts, labels and classes, not with the task's name: what was tuned on the same rows is the same."""
        digest = hashlib.blake2b(repr(list(self.classes)).encode(), digest_size=12)
        for column in (self.first, self.second or ()):
            digest.update(repr(list(column)).encode())
        digest.update(np.ascontiguousarray(self.labels).tobytes())
        return digest.hexdigest()

    def take(self, rows: Rows) -> LabelledTask:
        """These rows, in that order; repeats allowed."""
        pick = [int(row) for row in rows]
        second = None if self.second is None else [self.second[row] for row in pick]
        return replace(
            self, first=[self.first[row] for row in pick], second=second, labels=self.labels[rows], ids=[self.ids[row] for row in pick]
        )

    def check(self) -> LabelledTask:
        """The task itself. Errors: nothing can be learnt from it: one class, a class a row, one number only."""
        if self.is_regression:
            if np.ptp(self.labels) == 0:
                raise InputError(
                    f"task {self.name}: all of its {len(self)} labels are {self.labels[0]:g}; a regression needs a target that varies"
                )
            return self
        seen = np.unique(self.labels)
        if len(seen) == 1:
            raise InputError(
                f"task {self.name}: all of its {len(self)} rows are of class {self.classes[seen[0]]!r}; there must be two classes or more"
            )
        if len(seen) == len(self):
            raise InputError(
                f"task {self.name}: {len(seen)} classes for {len(self)} rows; classes must repeat, or are numbers: add {self.name} to "
                "data.regression="
            )
        return self


def read_tasks(parts: Mapping[str, Pool]) -> dict[str, dict[str, LabelledTask]]:
    """The tasks of each part of a corpus, by part and name; classes are those of all parts together. Errors: a pool without tasks, a label
    of a regression that is no finite number."""
    by_part = {part: pool.by_task() for part, pool in parts.items() if len(pool)}
    names = sorted({name for tasks in by_part.values() for name in tasks})
    found: dict[str, dict[str, LabelledTask]] = {part: {} for part in parts}
    for name in names:
        pools = {part: tasks[name] for part, tasks in by_part.items() if name in tasks}
        answers = pa.chunked_array([chunk for pool in pools.values() for chunk in pool.table[TGT].chunks])
        is_regression = any(_kind(pool) == NUMBERS for pool in pools.values())
        classes = () if is_regression else sorted(answers.unique().to_pylist())
        for part, pool in pools.items():
            found[part][name] = _read(name, pool, classes)
    return found


def _kind(pool: Pool) -> str:
    return str(pool.table[KIND][0].as_py()) if KIND in pool.table.column_names else CLASSES


def _read(name: str, pool: Pool, classes: Sequence[str]) -> LabelledTask:
    table = pool.table
    first, second = table[SRC].to_pylist(), table[SECOND].to_pylist() if SECOND in table.column_names else None
    if second is not None:
        first = [text if other is None else text[: -len(other) - 1] for text, other in zip(first, second, strict=True)]
        second = second if any(other is not None for other in second) else None
    if classes:
        labels: npt.NDArray[np.int64] | npt.NDArray[np.float64] = pc.index_in(table[TGT], pa.array(classes)).to_numpy().astype(np.int64)
    else:
        labels = _numbers(name, pool)
    return LabelledTask(name, first, second, labels, tuple(classes), table[ID].to_pylist())


def _numbers(name: str, pool: Pool) -> npt.NDArray[np.float64]:
    texts = pool.table[TGT].to_pylist()
    values = np.full(len(texts), np.nan)
    for row, text in enumerate(texts):
        try:
            values[row] = float(text)
        except ValueError:
            break
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise InputError(
            f"task {name}: the label of row {pool.table[ID][int(bad[0])].as_py()!r} is {texts[bad[0]]!r}, no finite number, and the task a "
            f"regression; mend the row, or take {name} out of data.regression="
        )
    return values
