"""Answers: the loss of each token of an answer, given the question and the answer's tokens before, under a causal language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsel.functional.blocks import IGNORE
from dsel.objective.pairs import Pairs
from dsel.objective.translation import Translation
from dsel.pool import SOURCE_TOKENS, SRC, TGT, TOKENS
from dsel.tokens import Side

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Instruction(Translation):
    """A batch is `Pairs` of questions and answers, which are one text to the model. The first token of an answer is left out."""

    sides = {SOURCE_TOKENS: Side(SRC, begin=True), TOKENS: Side(TGT, begin=True, end=True)}  # noqa: RUF012

    def outputs(self, model: torch.nn.Module, batch: Pairs) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores of an answer's tokens 1.. (batch, time, vocabulary) given the question and those before, and these tokens."""
        from dsel.functional.token_losses import close_up, outputs_from

        labels = batch.target[:, 1:]
        text = close_up([batch.source, labels])
        logits = model(input_ids=text.clamp_min(0), use_cache=False).logits  # right padding needs no mask under causal attention
        questions = (batch.source != IGNORE).sum(1, keepdim=True)
        return outputs_from(logits, questions - 1, labels), labels
