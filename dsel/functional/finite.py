"""Embeddings of which something can be computed."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dsel.error import InputError

Embeddings: TypeAlias = "npt.NDArray[np.float32] | npt.NDArray[np.float64]"


def check_embeddings(embeddings: Embeddings, name: str = "") -> Embeddings:
    """The embeddings (row, dim) themselves; `name` says which they are. Errors: another shape, no rows, a row that is not finite."""
    told = f"{name} embedding".lstrip()
    if np.ndim(embeddings) != 2 or not np.size(embeddings):
        raise InputError(f"{told}s: shape {np.shape(embeddings)}; expected (row, dim), one or more of both")
    bad = np.flatnonzero(~np.isfinite(embeddings).all(1))
    if len(bad):
        raise InputError(f"row {bad[0]}: its {told} is not finite ({len(bad)} rows in all); leave it out")
    return embeddings
