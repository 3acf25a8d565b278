"""Batches of pairs as a pure function of (seed, step): a phase may stop and go on anywhere, and sees the same data."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dsel.error import InputError
from dsel.functional.pairs import by_length
from dsel.objective.pairs import Pairs, join, pairs, ragged
from dsel.pool import NOISE, Pool

POOLED = 100  # batches whose pairs are sorted by length together


class PairBatches(torch.utils.data.Dataset[Pairs]):
    """Item `step` is that step's batch. Several pools are mixed by their shares of the tokens.

    In every epoch a pool's pairs come in a new order; of about a hundred batches' worth at a time those of one length are put
    together, and the batches shuffled.
    """

    def __init__(self, pools: Mapping[str, tuple[Pool, float]], context: int, batch_size: int, seed: int) -> None:
        for name, (pool, _) in pools.items():
            if len(pool) == 0:
                raise InputError(f"train on {name}: there are no pairs in it; give some, or train on another part")
        shares = np.array([share for _, share in pools.values()], dtype=np.float64)
        self.tokens = np.maximum((shares / shares.sum() * batch_size * context).round().astype(int), 1).tolist()
        self.sides = [ragged(pool.table) for pool, _ in pools.values()]
        self.noisy = [_noisy(pool) for pool, _ in pools.values()]
        self.context, self.batch_size, self.seed = context, batch_size, seed
        self._epoch = lru_cache(maxsize=2 * len(self.sides))(self._cut_epoch)
        self._ends: list[list[int]] = [[] for _ in self.sides]  # steps after each epoch of a pool, as far as they were asked for

    def __getstate__(self) -> dict[str, Any]:
        """Without the cache, which cannot go to another process."""
        return {name: value for name, value in self.__dict__.items() if name != "_epoch"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._epoch = lru_cache(maxsize=2 * len(self.sides))(self._cut_epoch)

    def __getitem__(self, step: int) -> Pairs:
        found = [
            pairs(*sides, self._which(part, step), self.context, noisy)
            for part, (sides, noisy) in enumerate(zip(self.sides, self.noisy, strict=True))
        ]
        return found[0] if len(found) == 1 else join(found)

    def _which(self, part: int, step: int) -> npt.NDArray[np.int64]:
        ends = self._ends[part]
        while not ends or step >= ends[-1]:
            ends.append((ends[-1] if ends else 0) + len(self._epoch(part, len(ends))))
        epoch = bisect_right(ends, step)
        return self._epoch(part, epoch)[step - (ends[epoch - 1] if epoch else 0)]

    def _cut_epoch(self, part: int, epoch: int) -> list[npt.NDArray[np.int64]]:
        source, target = self.sides[part]
        lengths = np.maximum(source.lengths, target.lengths).clip(max=self.context)
        rng = np.random.default_rng([self.seed, part, epoch])
        order = rng.permutation(len(lengths))
        found: list[npt.NDArray[np.int64]] = []
        groups = np.cumsum(lengths[order]) // (POOLED * self.tokens[part])
        for group in np.split(order, np.flatnonzero(np.diff(groups)) + 1):
            found += [group[which] for which in by_length(lengths[group], self.tokens[part])]
        return [found[at] for at in rng.permutation(len(found))]


def _noisy(pool: Pool) -> npt.NDArray[np.bool_] | None:
    return pool.table[NOISE].is_valid().to_numpy() if NOISE in pool.table.column_names else None
