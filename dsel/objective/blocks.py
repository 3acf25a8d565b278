"""Batches as a pure function of (seed, step): a phase may stop and go on anywhere, and sees the same data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from dsel.error import InputError
from dsel.functional.blocks import flat_tokens, gather_blocks, num_blocks
from dsel.pool import TOKENS, Pool


class Blocks(torch.utils.data.Dataset[torch.Tensor]):
    """Item `step` is that step's batch (batch, context + 1). Several pools are mixed by their shares.

    Each pool's documents are packed into blocks, which are visited in a new order every epoch.
    """

    def __init__(self, pools: Mapping[str, tuple[Pool, float]], context: int, batch_size: int, seed: int) -> None:
        for name, (pool, _) in pools.items():
            if len(pool) == 0:
                raise InputError(f"train on {name}: there are no documents in it; give some, or train on another part")
        self.flat = [flat_tokens(pool.table[TOKENS])[0] for pool, _ in pools.values()]
        shares = np.array([share for _, share in pools.values()], dtype=np.float64)
        self.shares = shares / shares.sum()
        self.blocks = [num_blocks(len(flat), context) for flat in self.flat]
        self.context, self.batch_size, self.seed = context, batch_size, seed

    def __getitem__(self, step: int) -> torch.Tensor:
        parts = [gather_blocks(flat, self._which(part, step), self.context) for part, flat in enumerate(self.flat)]
        return torch.from_numpy(np.concatenate(parts))

    def _which(self, part: int, step: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Block numbers of one pool at one step: its rows so far say where in its epochs it stands."""
        first, last = self._rows(part, step), self._rows(part, step + 1)
        epoch, place = np.divmod(np.arange(first, last), self.blocks[part])
        orders = {e: np.random.default_rng([self.seed, part, e]).permutation(self.blocks[part]) for e in set(epoch.tolist())}
        return np.array([orders[e][p] for e, p in zip(epoch.tolist(), place.tolist(), strict=True)], dtype=np.int64)

    def _rows(self, part: int, step: int) -> int:
        """Rows that the pool has given before `step`. Over all pools they add up to step * batch_size, and none ever falls:
        each pool takes its share of what the pools before it leave."""
        rest, share_left = self.batch_size * step, 1.0
        for share in self.shares[:part]:
            rest -= round(rest * share / share_left)
            share_left -= share
        is_last = part == len(self.shares) - 1
        return rest if is_last else round(rest * float(self.shares[part]) / share_left)
