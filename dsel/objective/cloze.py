"""Blanks: the loss of each token of an answer at a mask behind the question, under a masked language model such as BERT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsel.error import InputError
from dsel.functional.blocks import IGNORE
from dsel.objective.pairs import Pairs
from dsel.objective.translation import Translation
from dsel.pool import SOURCE_TOKENS, SRC, TGT, TOKENS
from dsel.tokens import Side

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Cloze(Translation):
    """A batch is `Pairs` of questions and answers, such as a label's name. The model reads the question, a mask for each token of the
    answer, and the end token; it is told how long the answer is, and predicts all of its tokens at once (arXiv 2001.07676). The first
    token of an answer is left out."""

    sides = {SOURCE_TOKENS: Side(SRC, begin=True), TOKENS: Side(TGT, begin=True)}  # noqa: RUF012

    def outputs(self, model: torch.nn.Module, batch: Pairs) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores of an answer's tokens 1.. (batch, time, vocabulary), each at its mask, and these tokens. Errors: the model's config has no
        mask token."""
        import torch

        from dsel.functional.token_losses import close_up, outputs_from

        labels, (mask, end) = batch.target[:, 1:], _mask_and_end(model)
        masks, ends = torch.full_like(labels, mask).where(labels != IGNORE, IGNORE), labels.new_full((len(labels), 1), end)
        text = close_up([batch.source, masks, ends])
        logits = model(input_ids=text.clamp_min(0), attention_mask=(text != IGNORE).long()).logits
        questions = (batch.source != IGNORE).sum(1, keepdim=True)
        return outputs_from(logits, questions, labels), labels


def _mask_and_end(model: torch.nn.Module) -> tuple[int, int]:
    """Ids from the model's config, where what builds a model has put them."""
    found = [getattr(model.config, name, None) for name in ("mask_token_id", "eos_token_id")]
    for name, value in zip(("mask_token_id", "eos_token_id"), found, strict=True):
        if not isinstance(value, int):
            raise InputError(
                f"objective Cloze: the model's config has {name}={value}; give a masked language model, by model=bert_tiny or "
                f"model=masked_pretrained, or write {name} into its config.json"
            )
    return found[0], found[1]  # type: ignore[return-value]  # integers, as was checked
