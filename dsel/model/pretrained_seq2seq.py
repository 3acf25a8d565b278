"""An encoder-decoder that exists already: a local folder or a hub name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsel.error import InputError
from dsel.model.pretrained import Pretrained
from dsel.objective.translation import Translation

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PretrainedSeq2Seq(Pretrained):
    """`transformers.AutoModelForSeq2SeqLM.from_pretrained(path)` and its tokenizer: Marian, BART, T5 and the like, of which one model is
    one pair of languages. `context`: tokens of either side."""

    context: int = 128
    auto_class = "AutoModelForSeq2SeqLM"

    @property
    def objective(self) -> Translation:  # type: ignore[override]  # another kind of model has another objective
        """Translation."""
        return Translation()

    def build(self, vocab_size: int) -> torch.nn.Module:
        """The published weights, in float32. Errors: nothing can be loaded from `path`, or its decoder needs to be told a language."""
        model = super().build(vocab_size)
        if model.config.decoder_start_token_id is None:  # type: ignore[union-attr]
            raise InputError(
                f"model.path={self.path}: its config has no decoder_start_token_id, so nobody can say how its translations begin"
            )
        return model
