"""How good a ranking of source tasks is, given what each makes of the target task. Pure numpy.

Among sources with equal predictions any order is as good: measures are the mean over all their orders, so that the order in which
the sources are listed changes nothing.
"""

from __future__ import annotations

from math import comb
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dsel.error import InputError

Floats: TypeAlias = "npt.NDArray[np.float32] | npt.NDArray[np.float64]"
Doubles = npt.NDArray[np.float64]


def regret(performance: Floats, predicted: Floats, k: int, none: float | None = None) -> float:
    """Regret@k (arXiv 2410.15148) in percent: 100 (best - best of the k sources with the largest predictions) / best.

    `performance` (source,) is the target's after each source, `predicted` (source,) its estimate; the best may also be `none`, that
    without a source. Errors: values that are not finite, a best that is not above 0, a k outside 1 to the number of sources.
    """
    performance, predicted = _checked(performance, predicted)
    if not 1 <= k <= len(performance):
        raise InputError(f"k={k}: there are {len(performance)} sources; give a number from 1 to {len(performance)}")
    if none is not None and not np.isfinite(none):
        raise InputError(f"none={none}: the performance without a source must be finite")
    best = max(float(performance.max()), -np.inf if none is None else none)
    if not best > 0:
        raise InputError(f"performance: the best is {best}, of which no regret is a share; give a measure above 0 where more is better")
    last = np.sort(predicted)[-k]
    sure, tied = performance[predicted > last], np.sort(performance[predicted == last])[::-1]
    num_drawn = k - len(sure)  # of the tied ones; the best drawn is number i, from 0, in comb(others after i, num_drawn - 1) of the draws
    found = np.maximum(tied, sure.max(initial=-np.inf))
    chances = [comb(len(tied) - 1 - place, num_drawn - 1) / comb(len(tied), num_drawn) for place in range(len(tied))]
    return 100 * float(np.dot(best - found, chances)) / best


def ndcg(performance: Floats, predicted: Floats) -> float:
    """NDCG of all sources (source,) by prediction, with the gain 2^(100 performance) - 1 and the discount 1 / log2(1 + rank).

    At most 1. All gains are divided by about the largest, so none overflows. Errors: values that are not finite, no performance
    above 0, which leaves nothing to gain.
    """
    performance, predicted = _checked(performance, predicted)
    if not performance.max() > 0:
        raise InputError(f"performance: the best is {performance.max()}; give a measure above 0 where more is better")
    gains = _scaled_gains(performance)
    discounts = 1 / np.log2(np.arange(len(gains)) + 2)
    _, group, counts = np.unique(-predicted, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    sums = np.append(0, np.cumsum(discounts))
    shared = (sums[ends] - sums[ends - counts]) / counts  # sources with equal predictions share their ranks' mean discount
    return float(shared[group] @ gains / (discounts @ np.sort(gains)[::-1]))


def _scaled_gains(performance: Doubles) -> Doubles:
    """(2^(100 performance) - 1) / 2^(100 best) (source,); where the best is small, the two are not told apart by a difference of ones."""
    exponents = 100 * np.log(2) * performance
    best = exponents.max()
    small = np.expm1(exponents.clip(max=1)) * np.exp(-best)
    scaled: Doubles = np.where(exponents < 1, small, np.exp(exponents - best) - np.exp(-best))
    return scaled


def _checked(performance: Floats, predicted: Floats) -> tuple[Doubles, Doubles]:
    performance, predicted = np.asarray(performance, np.float64), np.asarray(predicted, np.float64)
    if performance.ndim != 1 or performance.shape != predicted.shape or not len(performance):
        raise InputError(f"performance {performance.shape} and predicted {predicted.shape}; expected (source,) of both, one or more")
    for name, values in (("performance", performance), ("prediction", predicted)):
        if not np.isfinite(values).all():
            place = int(np.argmin(np.isfinite(values)))
            raise InputError(f"source {place}: its {name} is {values[place]}; leave it out")
    return performance, predicted
