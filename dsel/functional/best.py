"""The best of many units that pass by in parts, exactly, in memory for the best alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]


class Best:
    """Keeps the units with the largest keys, as long as their costs add up to no more than `budget`, and one at least.

    Of units with the same `name` (a 64-bit hash of the text) the best alone is kept: exact repeats. Equal keys are ordered by
    name, then by place; so neither the parts nor their order matter. Memory: about three times what is kept.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.least = -np.inf  # no key below it can be among the best any more
        self.num_repeats = 0
        self.kept: dict[str, Array] = {}
        self.new: list[dict[str, Array]] = []
        self.num_new = 0

    def add(
        self,
        keys: npt.NDArray[np.float64],
        names: npt.NDArray[np.uint64],
        places: npt.NDArray[np.int64],
        costs: npt.NDArray[np.int64] | None = None,
        **others: Array,
    ) -> None:
        """Units (unit,) by their columns; `places` number all units in the order of the source. `others` are carried along."""
        columns: dict[str, Array] = {"key": keys, "name": names, "place": places, **others}
        columns["cost"] = np.ones(len(keys), np.int64) if costs is None else costs
        some = keys >= self.least
        self.new.append({name: column[some] for name, column in columns.items()})
        self.num_new += int(some.sum())
        if self.num_new > max(2 * len(self.kept.get("key", ())), 1 << 16):
            self._compact()

    def result(self) -> dict[str, Array]:
        """The columns of the best units, best first."""
        self._compact()
        return self.kept

    def _compact(self) -> None:
        parts = [self.kept, *self.new] if self.kept else self.new
        if not parts:
            return
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        order = _order(columns)
        first = np.sort(np.unique(columns["name"][order], return_index=True)[1])
        self.num_repeats += len(order) - len(first)
        order = order[first]
        fits = int(np.searchsorted(np.cumsum(columns["cost"][order]), self.budget, side="right"))
        if fits < len(order):
            order = order[: max(fits, 1)]
            self.least = float(columns["key"][order[-1]])
        self.kept, self.new, self.num_new = _take(columns, order), [], 0


def _order(columns: Mapping[str, Array]) -> npt.NDArray[np.int64]:
    return np.lexsort((columns["place"], columns["name"], -columns["key"].astype(np.float64))).astype(np.int64)


def _take(columns: Mapping[str, Array], rows: npt.NDArray[np.int64]) -> dict[str, Array]:
    return {name: column[rows] for name, column in columns.items()}
