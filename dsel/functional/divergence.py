"""How far one distribution of hashed n-grams is from another."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.integer[Any]]


def kl_divergence(target: Counts, other: Counts) -> float:
    """KL(target || other) in nats of two counts (bucket,). One occurrence of each bucket is added to `other` alone (Laplace):
    a bucket that the target has and the other lacks would make it infinite."""
    one = target / max(target.sum(), 1)
    two = (other + 1) / (other.sum() + len(other))
    some = one > 0
    return float(np.sum(one[some] * np.log(one[some] / two[some])))
