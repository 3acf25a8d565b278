"""Batches of tokenized pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.functional.blocks import flat_tokens
from dsel.functional.pairs import Ragged, rectangle
from dsel.pool import SOURCE_TOKENS, TOKENS

if TYPE_CHECKING:
    import torch


class Pairs(NamedTuple):
    """Tokens of both sides, padded at their ends with `IGNORE`: `source` (batch, source time), `target` (batch, time + 1)."""

    source: torch.Tensor
    target: torch.Tensor
    noisy: torch.Tensor | None = None  # (batch,), where it is known which pairs are

    def to(self, device: torch.device | str) -> Pairs:
        """The same on a device."""
        return Pairs(self.source.to(device), self.target.to(device), None if self.noisy is None else self.noisy.to(device))


def join(batches: Sequence[Pairs]) -> Pairs:
    """Batches one below the other, padded to one width."""
    from dsel.functional.stacking import stack

    return Pairs(stack([b.source for b in batches]), stack([b.target for b in batches]), _flags(batches))


def _flags(batches: Sequence[Pairs]) -> torch.Tensor | None:
    import torch

    if all(batch.noisy is None for batch in batches):
        return None
    return torch.cat([torch.zeros(len(b.target), dtype=torch.bool) if b.noisy is None else b.noisy.cpu() for b in batches])


def ragged(table: pa.Table) -> tuple[Ragged, Ragged]:
    """Both sides' tokens."""
    return Ragged(*flat_tokens(table[SOURCE_TOKENS])), Ragged(*flat_tokens(table[TOKENS]))


def pairs(source: Ragged, target: Ragged, which: npt.NDArray[np.int64], context: int, noisy: npt.NDArray[np.bool_] | None = None) -> Pairs:
    """A batch of these pairs. `noisy` (pair,), of all."""
    import torch

    sides = torch.from_numpy(rectangle(source, which, context)), torch.from_numpy(rectangle(target, which, context + 1))
    return Pairs(*sides, None if noisy is None else torch.from_numpy(noisy[which]))
