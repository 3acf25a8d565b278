"""Rows that stand in a table twice."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.functional.hashing import hash_texts
from dsel.pool import SRC, TASK, TEXT

log = logging.getLogger("dsel")


def hash_rows(table: pa.Table, apart: bool) -> npt.NDArray[np.uint64]:
    """What a row is known by in another table (row,): the hash of its text or, where tasks are trained on `apart`, of its question alone,
    which gives an answer away whatever its own is."""
    return hash_texts(table[SRC if apart else TEXT])


def find_first(keys: npt.NDArray[np.uint64], tasks: npt.NDArray[np.uint64] | None = None) -> npt.NDArray[np.int64]:
    """The first row with each of `keys` (row,) or, where `tasks` are given (row,), with each in each task; ascending."""
    if tasks is None:
        return np.sort(np.unique(keys, return_index=True)[1])
    order = np.lexsort((keys, tasks))  # stable, so that the first of equals stays the first
    keys, tasks = keys[order], tasks[order]
    return np.sort(order[np.r_[True, (keys[1:] != keys[:-1]) | (tasks[1:] != tasks[:-1])][: len(order)]])


def warn_of_same_tasks(table: pa.Table) -> None:
    """Say which tasks have the same rows as another."""
    names, numbers = np.unique(table[TASK].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    keys, order = hash_texts(table[TEXT]), np.argsort(numbers, kind="stable")
    first: dict[bytes, str] = {}
    for name, rows in zip(names, np.split(order, np.searchsorted(numbers[order], np.arange(1, len(names)))), strict=False):
        same = first.setdefault(np.sort(keys[rows]).tobytes(), name)
        if same != name:
            log.warning("sources %s and %s have the same %d rows", same, name, len(rows))
