"""Models that exist already: a local folder or a hub name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsel.error import InputError
from dsel.objective.cloze import Cloze
from dsel.objective.language_modeling import LanguageModeling
from dsel.objective.translation import Translation
from dsel.pool import Pool
from dsel.protocol import Objective
from dsel.tokens import end_token

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class _Published:
    """Weights and tokenizer in one folder."""

    path: str
    context: int = 512
    revision: str | None = None

    auto_class = "AutoModel"

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
        return self._tokenizer()

    def _tokenizer(self) -> PreTrainedTokenizerBase:
        from transformers import AutoTokenizer

        try:
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(self.path, revision=self.revision)
        except (OSError, ValueError) as error:
            raise self._cannot("tokenizer", error) from error
        return tokenizer

    def _cannot(self, what: str, error: Exception) -> InputError:
        first = str(error).strip().splitlines()[0]
        return InputError(f"model.path={self.path}: no {what} can be loaded from that folder or hub name ({first})")

    def _check_positions(self, model: torch.nn.Module, num_sides: int, spare: int = 0) -> None:
        """Errors: a row may get longer than the model reads."""
        most = getattr(model.config, "max_position_embeddings", None)
        if isinstance(most, int) and 0 < most < num_sides * self.context + spare:
            raise InputError(
                f"model.context={self.context}: {self.path} reads at most {most} tokens; set model.context={(most - spare) // num_sides}"
            )


@dataclass(frozen=True)
class Pretrained(_Published):
    """`transformers.AutoModelForCausalLM.from_pretrained(path)` and its tokenizer. It learns texts in blocks of `context` tokens, or with
    the objective `Instruction` the answers of pairs; then either side may have `context` tokens."""

    objective: Objective = LanguageModeling()  # noqa: RUF009  # frozen

    auto_class = "AutoModelForCausalLM"

    def build(self, vocab_size: int) -> torch.nn.Module:
        """The published weights, in float32. Errors: nothing can be loaded from `path`, or `context` is more than it reads."""
        model = super().build(vocab_size)
        self._check_positions(model, len(self.objective.sides))
        return model


@dataclass(frozen=True)
class PretrainedMaskedLM(_Published):
    """`transformers.AutoModelForMaskedLM.from_pretrained(path)` and its tokenizer: BERT and the like, which learn the answers of pairs as
    blanks. `context`: tokens of either side."""

    context: int = 128
    auto_class = "AutoModelForMaskedLM"

    @property
    def objective(self) -> Cloze:
        """Answers as blanks."""
        return Cloze()

    def build(self, vocab_size: int) -> torch.nn.Module:
        """The published weights, in float32; its config names the tokenizer's mask and end. Errors: nothing can be loaded from `path`, its
        tokenizer has no mask, or `context` is more than it reads."""
        model, tokenizer = super().build(vocab_size), self._tokenizer()
        if tokenizer.mask_token_id is None:
            raise InputError(f"model.path={self.path}: its tokenizer has no mask token; give a masked language model, or model=pretrained")
        self._check_positions(model, 2, spare=1)
        model.config.mask_token_id = tokenizer.mask_token_id  # type: ignore[union-attr]
        model.config.eos_token_id = end_token(tokenizer)  # type: ignore[union-attr]
        return model


@dataclass(frozen=True)
class PretrainedSeq2Seq(_Published):
    """`transformers.AutoModelForSeq2SeqLM.from_pretrained(path)` and its tokenizer: Marian, BART, T5 and the like, of which one model is
    one pair of languages. `context`: tokens of either side."""

    context: int = 128
    auto_class = "AutoModelForSeq2SeqLM"

    @property
    def objective(self) -> Translation:
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
