"""A model of any architecture that transformers has, from scratch, with a tokenizer trained on the pool."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dsel.error import InputError
from dsel.objective.cloze import Cloze
from dsel.objective.instruction import Instruction
from dsel.objective.translation import Translation
from dsel.pool import Pool
from dsel.protocol import Objective
from dsel.tokens import train_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

SPECIAL = ("<pad>", "</s>", "<mask>")
PAD, END, MASK = range(len(SPECIAL))
SPARE = 4  # positions beside the tokens: an end token, and those that some architectures leave out at the beginning
OBJECTIVES: dict[str, Objective] = {  # in this order: encoder-decoders, and some models of blanks, are also in the lists below their own
    "AutoModelForSeq2SeqLM": Translation(),
    "AutoModelForMaskedLM": Cloze(),
    "AutoModelForCausalLM": Instruction(),
}


@dataclass(frozen=True)
class FromConfig:
    """Random weights by transformers' config of the model type `architecture` (gpt2, llama, t5, bert ...), whose keys are `options`.

    An encoder-decoder learns targets, a causal model the answers of pairs, a masked one the same as blanks. Either side may have
    `context` tokens. Nothing drops out unless `options` say so. `vocab_size` is that of the byte-level BPE tokenizer, which is trained
    on both sides of at most `tokenizer_documents` pairs of the pool.
    """

    architecture: str
    options: Mapping[str, Any] = field(default_factory=dict)
    context: int = 64
    vocab_size: int = 512
    tokenizer_documents: int = 20_000

    def __post_init__(self) -> None:
        if self.vocab_size < 260:
            raise InputError(f"model.vocab_size={self.vocab_size}: must be at least 260, the bytes and a few special tokens")

    @property
    def objective(self) -> Objective:
        """By the kind of model. Errors: an architecture or an option that transformers does not know."""
        self._config(self.vocab_size)
        return OBJECTIVES[self._auto_class()]

    def build(self, vocab_size: int) -> torch.nn.Module:
        """Random weights from torch's generator. Errors: options that make no model."""
        import transformers

        config = self._config(vocab_size)
        try:
            model: torch.nn.Module = getattr(transformers, self._auto_class()).from_config(config)
        except (ArithmeticError, AssertionError, RuntimeError, TypeError, ValueError) as error:
            raise self._wrong("options", dict(self.options), f"make no model ({_first_line(error)}); change them") from error
        return model

    def tokenizer(self, source: Pool) -> PreTrainedTokenizerBase:
        """Byte-level BPE, one vocabulary for both sides. Errors: the pool holds no pairs."""
        from transformers import PreTrainedTokenizerFast

        names = dict(zip(("pad_token", "eos_token", "mask_token"), SPECIAL if self._is_masked() else SPECIAL[:MASK], strict=False))
        trained = train_tokenizer(source, self.objective.sides, self.vocab_size, self.tokenizer_documents, list(names.values()))
        return PreTrainedTokenizerFast(tokenizer_object=trained, **names)

    def _auto_class(self) -> str:
        from transformers.models.auto import modeling_auto as auto

        lists = (
            auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
            auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
            auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        )
        found = [name for name, known in zip(OBJECTIVES, lists, strict=True) if self.architecture in known]
        if not found:
            close = difflib.get_close_matches(self.architecture, [name for known in lists for name in known], n=1)
            hint = f"did you mean {close[0]}?" if close else "give its model_type, such as gpt2, llama, t5 or bert"
            raise self._wrong("architecture", self.architecture, f"transformers has no language model of that type; {hint}")
        return found[0]

    def _is_masked(self) -> bool:
        return self._auto_class() == "AutoModelForMaskedLM"

    def _config(self, vocab_size: int) -> PreTrainedConfig:
        from huggingface_hub.errors import StrictDataclassError
        from transformers import CONFIG_MAPPING, PreTrainedConfig

        self._auto_class()
        kind = CONFIG_MAPPING[self.architecture]
        defaults = {name: p.default for name, p in inspect.signature(kind).parameters.items()}
        ours = self._ours(kind, defaults, vocab_size)
        known = [*defaults, *kind.attribute_map, *inspect.signature(PreTrainedConfig).parameters]
        for key, value in self.options.items():
            if kind.attribute_map.get(key, key) in ours:
                raise self._wrong(f"options.{key}", value, "follows from model.context, model.vocab_size and the tokenizer; take it out")
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"its arguments are those of transformers.{kind.__name__}"
                raise self._wrong(f"options.{key}", value, f"{kind.__name__} has no such key; {hint}")
        still = {name: 0.0 for name, value in defaults.items() if "drop" in name and type(value) in (int, float)}
        try:
            config: PreTrainedConfig = kind(**{**still, **ours, **self.options})
        except (StrictDataclassError, ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._wrong("options", dict(self.options), f"{kind.__name__} cannot be made ({_first_line(error)})") from error
        return config

    def _ours(self, kind: type[PreTrainedConfig], defaults: Mapping[str, Any], vocab_size: int) -> dict[str, Any]:
        """What the run decides, by the config's key."""
        kind_of = self._auto_class()
        is_seq2seq, is_causal = kind_of == "AutoModelForSeq2SeqLM", kind_of == "AutoModelForCausalLM"
        found: dict[str, Any] = {
            "vocab_size": vocab_size,
            "pad_token_id": None if is_causal else PAD,  # padding stands behind the text, where no token of it looks
            "bos_token_id": END,
            "eos_token_id": END,
        }
        if is_seq2seq:
            found["decoder_start_token_id"] = END
        if self._is_masked():
            found["mask_token_id"] = MASK
        positions = kind.attribute_map.get("max_position_embeddings", "max_position_embeddings")
        optional = {
            positions: self.context * (1 if is_seq2seq else 2) + SPARE,
            "decoder_vocab_size": vocab_size,
            "cls_token_id": END,
            "sep_token_id": END,
            "forced_bos_token_id": None,
            "forced_eos_token_id": None,
        }
        return found | {name: value for name, value in optional.items() if name in defaults}

    def _wrong(self, key: str, value: Any, what: str) -> InputError:
        return InputError(f"model.{key}={value}: {what}")


def _first_line(error: Exception) -> str:
    """All that it says, in one line."""
    return " ".join(str(error).split())
