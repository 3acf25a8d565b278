"""Ragged token lists to rectangles of examples of about one length. Pure numpy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsel.functional.blocks import IGNORE

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ragged:
    """Token lists end to end (token,), and where each begins (example + 1,)."""

    flat: npt.NDArray[np.integer]
    offsets: Ints

    @property
    def lengths(self) -> Ints:
        """Tokens of each (example,)."""
        return np.diff(self.offsets)

    def take(self, which: Ints) -> Ragged:
        """These lists, in that order; repeats allowed."""
        lengths = self.lengths[which]
        offsets = np.r_[0, np.cumsum(lengths)]
        at = np.arange(offsets[-1]) + np.repeat(self.offsets[which] - offsets[:-1], lengths)
        return Ragged(self.flat[at], offsets)


def rectangle(ragged: Ragged, which: Ints, most: int) -> Ints:
    """Tokens (example, time) of the lists `which`, cut at `most`, padded at their ends with `IGNORE`."""
    lengths = np.minimum(ragged.lengths[which], most)
    time = np.arange(max(int(lengths.max(initial=0)), 1))
    at = np.minimum(ragged.offsets[which][:, None] + time, max(len(ragged.flat) - 1, 0))
    values = ragged.flat[at].astype(np.int64) if len(ragged.flat) else np.zeros(at.shape, np.int64)
    return np.where(time < lengths[:, None], values, IGNORE)


def by_length(lengths: Ints, tokens_per_batch: int) -> Iterator[Ints]:
    """All examples once, longest first, in batches whose longest example times their number is about `tokens_per_batch`."""
    order = np.argsort(-lengths, kind="stable").astype(np.int64)
    first = 0
    while first < len(order):
        count = max(1, tokens_per_batch // max(int(lengths[order[first]]), 1))
        yield order[first : first + count]
        first += count
