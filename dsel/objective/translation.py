"""Translation: the loss of each token of the target side, given the source side and the tokens before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.functional.blocks import IGNORE
from dsel.functional.pairs import by_length
from dsel.objective.pairs import Pairs, join, pairs, ragged
from dsel.pool import SOURCE_TOKENS, SRC, TGT, TOKENS, Pool
from dsel.tokens import Side

if TYPE_CHECKING:
    import torch

    from dsel.objective.pair_batches import PairBatches


@dataclass(frozen=True)
class Translation:
    """A batch is `Pairs`. The first token of a target is a place for the model's own start token."""

    sides = {SOURCE_TOKENS: Side(SRC, end=True), TOKENS: Side(TGT, begin=True, end=True, is_target=True)}  # noqa: RUF012

    def token_losses(self, model: torch.nn.Module, batch: Pairs, smoothing: float = 0.0) -> torch.Tensor:
        """Negative log likelihood (batch, time) in nats of the tokens that are predicted; 0 at padding."""
        from dsel.functional.token_losses import token_losses

        return token_losses(*self.outputs(model, batch), smoothing)

    def outputs(self, model: torch.nn.Module, batch: Pairs) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores of target tokens 1.. (batch, time, vocabulary) given the source and those before, and these tokens."""
        real, labels = batch.source != IGNORE, batch.target[:, 1:]
        before = batch.target[:, :-1].clamp_min(0)
        before[:, 0] = int(model.config.decoder_start_token_id)  # type: ignore[union-attr, arg-type]
        logits = model(input_ids=batch.source.clamp_min(0), attention_mask=real.long(), decoder_input_ids=before, use_cache=False).logits
        return logits, labels

    def predicted(self, batch: Pairs) -> torch.Tensor:
        """Which losses are of tokens (batch, time), and which of padding."""
        return batch.target[:, 1:] != IGNORE

    def batches(self, pools: Mapping[str, tuple[Pool, float]], context: int, batch_size: int, seed: int) -> PairBatches:
        """Training batches by step: pairs of about one length, together about `batch_size` times `context` tokens of the longer side."""
        from dsel.objective.pair_batches import PairBatches

        return PairBatches(pools, context, batch_size, seed)

    def join(self, batches: Sequence[Pairs]) -> Pairs:
        """Batches one below the other, padded to one width."""
        return join(batches)

    def rows(self, table: pa.Table, context: int, tokens_per_batch: int) -> Iterator[tuple[npt.NDArray[np.int64], Pairs]]:
        """All pairs once, sorted by length, sides cut at `context` tokens: pair (row,) and batch."""
        source, target = ragged(table)
        for which in by_length(np.maximum(source.lengths, target.lengths).clip(max=context), tokens_per_batch):
            yield which, pairs(source, target, which, context)

    def some(self, table: pa.Table, count: int, context: int) -> Iterator[Pairs]:
        """Pairs of about `count` times `context` tokens, evenly from the whole."""
        source, target = ragged(table)
        mean = float(np.maximum(source.lengths, target.lengths).clip(max=context).mean()) if len(source.lengths) else 1.0
        which = np.unique(np.linspace(0, len(source.lengths) - 1, min(len(source.lengths), round(count * context / mean))).astype(np.int64))
        for part in by_length(np.maximum(source.lengths, target.lengths)[which].clip(max=context), 16 * context):
            yield pairs(source, target, which[part], context)

    def num_cut(self, table: pa.Table, context: int) -> int:
        """Pairs of which a side is longer than what a batch holds of it."""
        source, target = ragged(table)
        return int(np.count_nonzero((source.lengths > context) | (target.lengths > context + 1)))
