"""How well estimates follow the truth. Pure numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dsel.error import InputError

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]


def pearson(a: Floats, b: Floats) -> float:
    """The correlation of values (unit,) with others; NaN where either is constant."""
    a, b = _checked(a, b)
    if not _varies(a) or not _varies(b):
        return float("nan")
    return float(np.clip(_direction(a) @ _direction(b), -1, 1))


def spearman(a: Floats, b: Floats) -> float:
    """The correlation of the ranks of values (unit,), ties sharing their mean rank; NaN where either is constant."""
    a, b = _checked(a, b)
    return pearson(_ranks(a), _ranks(b))


def relative_error(estimate: Floats, truth: Floats) -> float:
    """The mean of |estimate - truth| / |truth| over (unit,). Errors: a truth of 0."""
    estimate, truth = _checked(estimate, truth)
    if not truth.all():
        raise InputError(f"place {int(np.argmin(np.abs(truth)))}: the truth is 0, of which no error is a share; leave it out")
    return float(np.mean(np.abs(estimate - truth) / np.abs(truth)))


def lds(estimate: Floats, truth: Floats) -> tuple[float, int]:
    """The linear datamodeling score (arXiv 2303.14186): the mean over rows of the Spearman correlation over subsets, of (subset, row).

    And how many rows it leaves out, since their estimate or their truth is the same for every subset; NaN where that is all.
    """
    if np.ndim(estimate) != 2 or np.shape(estimate) != np.shape(truth):
        raise InputError(f"estimates {np.shape(estimate)} and truths {np.shape(truth)}: expected (subset, row) of both")
    found = np.array([spearman(*pair) for pair in zip(np.transpose(estimate), np.transpose(truth), strict=True)])
    kept = found[~np.isnan(found)]
    return (float(kept.mean()) if len(kept) else float("nan")), len(found) - len(kept)


def _checked(a: Floats, b: Floats) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise InputError(f"values of shapes {a.shape} and {b.shape}: expected (unit,) of both, one or more")
    for values in (a, b):
        if not np.isfinite(values).all():
            place = int(np.argmin(np.isfinite(values)))
            raise InputError(f"place {place}: a value of {values[place]}; leave it out")
    return a, b


def _varies(values: npt.NDArray[np.float64]) -> bool:
    return bool(values.min() < values.max())


def _direction(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    scaled = values / np.abs(values).max()  # squares of what is huge or tiny are lost
    centred = scaled - scaled.mean()
    unit: npt.NDArray[np.float64] = centred / np.linalg.norm(centred)
    return unit


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: npt.NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks
