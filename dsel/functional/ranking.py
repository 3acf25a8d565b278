"""Orders, ties and how well an order finds what was hidden. Pure numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]


def keyed_uniform(ids: npt.NDArray[np.object_], seed: int) -> npt.NDArray[np.float64]:
    """A number in (0, 1) for each id (unit,): it depends on the id and the seed alone, not on the order of the pool."""
    import pandas as pd

    keys = pd.util.hash_array(np.asarray(ids, dtype=object), hash_key=f"{seed % 10**16:016d}", categorize=False)
    return uniform(np.asarray(keys, dtype=np.uint64))


def uniform(names: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """Hashes (unit,) as numbers in (0, 1)."""
    numbers: npt.NDArray[np.float64] = (names.astype(np.float64) + 0.5) / 2.0**64
    return numbers


def keyed_gumbel(ids: npt.NDArray[np.object_], seed: int) -> npt.NDArray[np.float64]:
    """Standard Gumbel noise for each id: adding it to log weights and taking the top k samples without replacement."""
    return gumbel(keyed_uniform(ids, seed))


def gumbel(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Standard Gumbel noise from numbers in (0, 1)."""
    noise: npt.NDArray[np.float64] = -np.log(-np.log(numbers.clip(1e-300, 1 - 1e-16)))
    return noise


def order_by(values: Floats, ids: npt.NDArray[np.object_]) -> npt.NDArray[np.int64]:
    """Unit numbers from the largest value to the smallest; ties in an order that only the ids decide."""
    return np.lexsort((keyed_uniform(ids, 0), -np.asarray(values, dtype=np.float64))).astype(np.int64)


def roc_auc(values: Floats, positive: npt.NDArray[np.bool_]) -> float:
    """Probability that a positive unit stands above another one, ties counting half; NaN without both kinds."""
    num_positive = int(positive.sum())
    num_negative = len(positive) - num_positive
    if not num_positive or not num_negative:
        return float("nan")
    _, inverse, counts = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2  # rank 1 = smallest; ties share the mean of their ranks
    rank_sum = float(mean_rank[inverse][positive].sum())
    return (rank_sum - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative)


def precision_recall(selected: npt.NDArray[np.int64], positive: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Share of the selected units that are positive, and share of the positive units that are selected."""
    found = int(positive[np.unique(selected)].sum())
    return found / max(len(np.unique(selected)), 1), found / max(int(positive.sum()), 1)


def middle_out(order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The same units from the middle of the order outwards."""
    distance = np.abs(np.arange(len(order)) - (len(order) - 1) / 2)
    return order[np.argsort(distance, kind="stable")]
