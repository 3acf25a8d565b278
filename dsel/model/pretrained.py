"""Models that exist already: a local folder or a hub name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsel.error import InputError
from dsel.objective.language_modeling import LanguageModeling
from dsel.objective.translation import Translation
from dsel.pool import Pool

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Pretrained:
    """`transformers.AutoModelForCausalLM.from_pretrained(path)` and its tokenizer. `context`: tokens per block."""

    path: str
    context: int = 512
    revision: str | None = None

    auto_class = "AutoModelForCausalLM"

    @property
    def objective(self) -> LanguageModeling:
        """Next-token prediction."""
        return LanguageModeling()

    def build(self, vocab_size: int) -> torch.nn.Module:
        """The published weights, in float32. Errors: nothing can be loaded from `path`."""
        import torch
        import transformers

        try:
            auto = getattr(transformers, self.auto_class)
            model: torch.nn.Module = auto.from_pretrained(self.path, revision=self.revision, dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise self._cannot("model", error) from error
        return model

    def tokenizer(self, source: Pool) -> PreTrainedTokenizerBase:
        """The tokenizer published with the model."""
        from transformers import AutoTokenizer

        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(self.path, revision=self.revision)
        except (OSError, ValueError) as error:
            raise self._cannot("tokenizer", error) from error
        return tokenizer

    def _cannot(self, what: str, error: Exception) -> InputError:
        first = str(error).strip().splitlines()[0]
        return InputError(f"model.path={self.path}: no {what} can be loaded from that folder or hub name ({first})")


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
