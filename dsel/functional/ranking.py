"""Orders, ties and how well an order finds what was hidden. Pure numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SPACING = 4
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


MOST_HELD = 1 << 25  # values of the smaller class that are in memory for an exact area
FINE_BITS = 22
Part = tuple[Floats, npt.NDArray[np.bool_]]


def roc_auc_of_parts(parts: Callable[[], Iterator[Part]], most_held: int = MOST_HELD) -> tuple[float, float]:
    """`roc_auc` of float32 values that are never in memory together, and a bound on its error; `parts()` begins anew each time.

    The smaller class is held, and the other counted against it: exact, error 0. Where that is over `most_held` as well, both
    are counted in 2**22 bins, and pairs within a bin as halves: the bound is half their share.
    """
    sizes = [0, 0]
    for _, positive in parts():
        found = int(positive.sum())
        sizes = [sizes[0] + len(positive) - found, sizes[1] + found]
    num_pairs = sizes[0] * sizes[1]
    if not num_pairs:
        return float("nan"), 0.0
    if min(sizes) > most_held:
        return _binned_auc(parts)
    held_class = sizes[1] <= sizes[0]
    held = np.sort(np.concatenate([values[positive == held_class] for values, positive in parts()]))
    twice = 0  # of the pairs in which the held value is smaller; ties count half
    for values, positive in parts():
        others = values[positive != held_class]
        twice += int(np.searchsorted(held, others, "left").sum()) + int(np.searchsorted(held, others, "right").sum())
    share = twice / (2 * num_pairs)
    return (1 - share if held_class else share), 0.0


def _binned_auc(parts: Callable[[], Iterator[Part]]) -> tuple[float, float]:
    counts = np.zeros((2, 1 << FINE_BITS), np.float64)
    for values, positive in parts():
        bits = (np.asarray(values, np.float32) + np.float32(0)).view(np.uint32)  # + 0: minus zero is zero
        order = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)) >> np.uint32(32 - FINE_BITS)
        for row, some in ((0, ~positive), (1, positive)):
            counts[row] += np.bincount(order[some], minlength=1 << FINE_BITS)
    negative, positive_counts = counts
    num_pairs = negative.sum() * positive_counts.sum()
    within = float(positive_counts @ negative) / 2
    below = np.cumsum(negative) - negative
    return (float(positive_counts @ below) + within) / num_pairs, within / num_pairs


def precision_recall(selected: npt.NDArray[np.int64], positive: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Share of the selected units that are positive, and share of the positive units that are selected."""
    found = int(positive[np.unique(selected)].sum())
    return found / max(len(np.unique(selected)), 1), found / max(int(positive.sum()), 1)


def middle_out(order: npt.NDArray[np.int64], middle: float | None = None) -> npt.NDArray[np.int64]:
    """The same units from the middle of the order outwards; `middle` is its place, where `order` is a part of one."""
    distance = np.abs(np.arange(len(order)) - ((len(order) - 1) / 2 if middle is None else middle))
    return order[np.argsort(distance, kind="stable")]


@dataclass(frozen=True)
class SampleRank:
    """Where a number stands among those of a sample: the share of the sample above it, ties counting half.

    `values` (knot,) ascend, `above` (knot,) are their shares; in between, shares are interpolated. Knots are the extremes, every
    `SPACING`th value, and ties of many with their neighbours: in steps from value to value, noise in the last digit could be a whole
    rank. Beyond the sample, where a quantile would say no more, the share goes on towards 0 (or 1) as 1 / (1 + distance / tail), so
    the best of a large pool keep their order. The tails are how far the outer tenths of the sample reach on average.
    """

    values: npt.NDArray[np.float64]
    above: npt.NDArray[np.float64]
    lower_tail: float
    upper_tail: float

    @staticmethod
    def of(sample: Floats) -> SampleRank:
        """From the numbers of a sample (unit,), at least one, all finite."""
        ordered = np.sort(sample.astype(np.float64))
        values, counts = np.unique(ordered, return_counts=True)
        above = (len(ordered) - np.cumsum(counts) + counts / 2) / len(ordered)
        many = counts > max(1, len(ordered) / 100)
        knots = (np.arange(len(values)) % SPACING == 0) | many | np.append(many[1:], True) | np.append(True, many[:-1])
        tenth = max(2, len(ordered) // 10)
        lower, upper = ordered[:tenth], ordered[-tenth:]
        tails = float(lower[-1] - lower.mean()) or 1.0, float(upper.mean() - upper[0]) or 1.0
        return SampleRank(values[knots], above[knots], *tails)

    def share_above(self, numbers: Floats) -> npt.NDArray[np.float64]:
        """Of each number (unit,), between 0 and 1; larger numbers have smaller shares."""
        numbers = numbers.astype(np.float64)
        share = np.interp(numbers, self.values, self.above)
        share /= 1 + np.maximum(numbers - self.values[-1], 0) / self.upper_tail
        below: npt.NDArray[np.float64] = 1 - (1 - share) / (1 + np.maximum(self.values[0] - numbers, 0) / self.lower_tail)
        return np.where(numbers < self.values[0], below, share)
