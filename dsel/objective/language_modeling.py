"""Next-token prediction: the loss of each token of a text, given those before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from dsel.functional.blocks import IGNORE, batches_by_length, flat_tokens, gather_blocks, num_blocks
from dsel.pool import TEXT, TOKENS, Pool
from dsel.tokens import Side

if TYPE_CHECKING:
    import torch

    from dsel.objective.blocks import Blocks

ROWS = 16  # of a batch of `some`


@dataclass(frozen=True)
class LanguageModeling:
    """A batch is tokens (batch, time + 1); a row's padding stands at its end and is `IGNORE`."""

    sides = {TOKENS: Side(TEXT, begin=True)}  # noqa: RUF012  # the same for all, and nobody writes into it

    def token_losses(self, model: torch.nn.Module, batch: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
        """Negative log likelihood (batch, time) in nats of tokens 1.. given those before; 0 at padding."""
        from dsel.functional.token_losses import token_losses

        return token_losses(*self.outputs(model, batch), smoothing)

    def outputs(self, model: torch.nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores of tokens 1.. (batch, time, vocabulary) given those before, and these tokens.

        Right padding needs no attention mask: under causal attention no real token sees it.
        """
        return model(input_ids=batch[:, :-1].clamp_min(0), use_cache=False).logits, batch[:, 1:]

    def predicted(self, batch: torch.Tensor) -> torch.Tensor:
        """Which losses are of tokens (batch, time), and which of padding."""
        return batch[:, 1:] != IGNORE

    def batches(self, pools: Mapping[str, tuple[Pool, float]], context: int, batch_size: int, seed: int) -> Blocks:
        """Training batches by step: blocks of `context` tokens, `batch_size` of them."""
        from dsel.objective.blocks import Blocks

        return Blocks(pools, context, batch_size, seed)

    def join(self, batches: Sequence[torch.Tensor]) -> torch.Tensor:
        """Batches one below the other, padded to one width."""
        from dsel.functional.stacking import stack

        return stack(batches)

    def rows(self, table: pa.Table, context: int, tokens_per_batch: int) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """All predicted tokens of all documents once, in windows sorted by length: document (row,) and batch."""
        import torch

        flat, offsets = flat_tokens(table[TOKENS])
        for document, rows in batches_by_length(flat, offsets, context, tokens_per_batch):
            yield document, torch.from_numpy(rows)

    def some(self, table: pa.Table, count: int, context: int) -> Iterator[torch.Tensor]:
        """At most `count` blocks, evenly from the whole."""
        import torch

        flat, _ = flat_tokens(table[TOKENS])
        total = num_blocks(len(flat), context)
        which = np.unique(np.linspace(0, total - 1, min(count, total)).astype(np.int64))
        for first in range(0, len(which), ROWS):
            yield torch.from_numpy(gather_blocks(flat, which[first : first + ROWS], context))

    def num_cut(self, table: pa.Table, context: int) -> int:
        """0: texts are packed into blocks, and none is cut."""
        return 0
