"""Subsets of tasks as masks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dsel.error import InputError

Subsets = npt.NDArray[np.bool_]
"""Which tasks are in (subset, task)."""


def check_subsets(subsets: Subsets, num_tasks: int) -> Subsets:
    """The masks. Errors: they are none, of another width, or a subset without a task."""
    subsets = np.asarray(subsets)
    if subsets.ndim != 2 or subsets.dtype != np.bool_:
        raise InputError(f"subset masks: {subsets.dtype} of shape {subsets.shape}; expected bool (subset, task)")
    if subsets.shape[1] != num_tasks:
        raise InputError(f"a subset mask has {subsets.shape[1]} columns, there are {num_tasks} tasks; give one column per task")
    empty = np.flatnonzero(~subsets.any(1))
    if len(empty):
        raise InputError(f"subset {empty[0]}: holds no task ({len(empty)} subsets in all); leave it out")
    return subsets
