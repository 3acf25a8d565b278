"""What is told of many units that pass by in parts: histograms of scores, distributions of lengths, counts by domain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

BINS = 50
OUTLYING = 2.0  # a range that is so many times that of 99.8 % of the values would squash them into a few bins
MOST_SAMPLED = 1 << 20
LONGEST = 1 << 20  # lengths from here on are counted as one
MOST_DOMAINS = 1 << 20  # in memory; beyond, the small ones are counted as one
NO_DOMAIN, OTHER = "(none)", "other"

Values = npt.NDArray[np.number[Any]]


class Range:
    """Lowest and highest of the values, exactly, and from an even sample where nearly all of them lie."""

    def __init__(self, num_values: int) -> None:
        self.step = max(1, num_values // MOST_SAMPLED)
        self.low, self.high = np.inf, -np.inf
        self.sample: list[Values] = []

    def add(self, values: Values) -> None:
        """Values (unit,) of a part."""
        if len(values):
            self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
            self.sample.append(values[:: self.step])

    def edges(self) -> npt.NDArray[np.float64]:
        """Edges of `BINS` even bins over the range; where outliers would squash the rest, from the 0.1 % to the 99.9 % quantile."""
        low, high = self.low, self.high
        near, far = np.quantile(np.concatenate(self.sample), [0.001, 0.999]).tolist() if self.sample else (0.0, 0.0)
        if high - low > OUTLYING * (far - near) and far > near:
            low, high = near, far
        if not high > low:
            low, high = (low, low + max(abs(low), 1.0) * 1e-6) if np.isfinite(low) else (0.0, 1.0)
        return np.linspace(low, high, BINS + 1)


@dataclass
class Histogram:
    """Counts by kind in the bins between `edges`; what is beyond the ends is counted in the outermost bins."""

    edges: npt.NDArray[np.float64]
    counts: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)

    def add(self, kind: str, values: Values) -> None:
        """Values (unit,) of a part."""
        found = np.histogram(np.clip(values, self.edges[0], self.edges[-1]), self.edges)[0]
        self.counts[kind] = self.counts.get(kind, 0) + found

    def record(self) -> dict[str, list[float]]:
        """`edges` (bin + 1,) and the counts (bin,) of each kind."""
        return {"edges": self.edges.tolist()} | {kind: counts.tolist() for kind, counts in self.counts.items()}


class Lengths:
    """The distribution of whole numbers below `LONGEST`, exactly; those above count as `LONGEST` in all but the mean."""

    def __init__(self) -> None:
        self.counts = np.zeros(1, np.int64)
        self.total = 0

    def add(self, values: npt.NDArray[np.integer[Any]]) -> None:
        """Lengths (unit,) of a part."""
        found = np.bincount(np.minimum(values, LONGEST), minlength=len(self.counts))
        found[: len(self.counts)] += self.counts
        self.counts, self.total = found, self.total + int(values.sum(dtype=np.int64))

    def record(self) -> dict[str, Any]:
        """Mean and deciles (11,), from the shortest to the longest; a decile is the least length that so many do not exceed."""
        below = np.cumsum(self.counts)
        if not below[-1]:
            return {"mean": None, "deciles": []}
        wanted = np.maximum((np.arange(11) * below[-1] + 9) // 10, 1)
        deciles = np.searchsorted(below, wanted)
        return {"mean": self.total / int(below[-1]), "deciles": deciles.tolist()}

    def binned(self, edges: npt.NDArray[np.int64]) -> list[int]:
        """Counts (bin,) of lengths from an edge up to below the next."""
        below = np.r_[0, np.cumsum(self.counts)]
        counts: list[int] = np.diff(below[np.minimum(edges, len(self.counts))]).tolist()
        return counts


def length_edges(longest: int, bins: int = 40) -> npt.NDArray[np.int64]:
    """Edges of bins that grow by a constant factor, from 1 (the shortest are in the first bin, from 0) to above `longest`."""
    edges = np.unique(np.geomspace(1, max(longest + 1, 2), bins + 1).round().astype(np.int64))
    edges[0], edges[-1] = 0, max(longest + 1, 2)
    return edges


class Domains:
    """Counts by domain, in the pool and among the selected."""

    def __init__(self) -> None:
        self.pool: Counter[str] = Counter()
        self.selected: Counter[str] = Counter()

    def add(self, domains: pa.ChunkedArray, selected: npt.NDArray[np.bool_]) -> None:
        """Domains (unit,) of a part, null where there is none."""
        self.pool.update(_count(domains))
        self.selected.update(_count(domains.filter(pa.array(selected))))
        if len(self.pool) > MOST_DOMAINS:
            kept = dict(self.pool.most_common(MOST_DOMAINS // 2))
            self.pool, self.selected = _fold(self.pool, kept), _fold(self.selected, kept)

    def record(self, top: int = 15) -> list[dict[str, Any]]:
        """The `top` domains by their larger share, pool or selected, and the rest as `other`: domain, pool, selected."""
        sides = {"pool": self.pool, "selected": self.selected}
        totals = {side: sum(counts.values()) for side, counts in sides.items()}

        def place(name: str) -> tuple[float, str]:
            return -max(counts[name] / max(totals[side], 1) for side, counts in sides.items()), name

        named = sorted((name for name in self.pool if name != OTHER), key=place)[:top]
        rows: list[dict[str, Any]] = [{"domain": name} | {side: counts[name] for side, counts in sides.items()} for name in named]
        other = {side: total - sum(row[side] for row in rows) for side, total in totals.items()}
        return [*rows, {"domain": OTHER, **other}] if other["pool"] else rows


def _count(domains: pa.ChunkedArray) -> dict[str, int]:
    counts = pc.fill_null(domains.cast(pa.string()), NO_DOMAIN).value_counts()
    return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))


def _fold(counts: Counter[str], kept: Mapping[str, int]) -> Counter[str]:
    """The counts of `kept`, all others under `other`."""
    found = Counter({name: count for name, count in counts.items() if name in kept})
    found[OTHER] += sum(counts.values()) - sum(found.values())
    return found
