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

    def token_losses(self, model: torch.nn.Module, batch: Pairs, smoothing: float = 0.0) -> torch.Tensor:
        """Negative log likelihood (batch, time) in nats of an answer's tokens 1.. given the question and those before; 0 at padding."""
        import torch

        from dsel.functional.token_losses import token_losses

        labels = batch.target[:, 1:]
        apart = torch.cat([batch.source, labels], 1)
        padding = apart == IGNORE
        text = apart.gather(1, padding.to(torch.int8).argsort(dim=1, stable=True))  # answers begin where their questions end
        text = text[:, : int((~padding).sum(1).max())]
        logits = model(input_ids=text.clamp_min(0), use_cache=False).logits  # right padding needs no mask under causal attention
        questions = (batch.source != IGNORE).sum(1, keepdim=True)
        at = (questions - 1 + torch.arange(labels.shape[1], device=text.device)).clamp_max(text.shape[1] - 1)
        answers = logits.gather(1, at[..., None].expand(-1, -1, logits.shape[-1]))
        return token_losses(answers, labels, smoothing)
