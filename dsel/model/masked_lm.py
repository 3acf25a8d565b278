"""A BERT-like encoder from scratch, which learns texts by finding hidden tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsel.error import InputError
from dsel.objective.masked_language_modeling import MaskedLanguageModeling
from dsel.pool import Pool
from dsel.protocol import Objective
from dsel.tokens import train_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

SPECIAL = ("<pad>", "</s>", "<mask>")
PAD, END, MASK = range(len(SPECIAL))


@dataclass(frozen=True)
class MaskedLM:
    """BERT by transformers' config, without dropout. It learns texts in blocks of `context` tokens. `vocab_size` is that of the byte-level
    BPE tokenizer, which is trained on at most `tokenizer_documents` documents of the pool; an end token opens a text, and ends each of the
    one or two that it is made of."""

    num_layers: int = 2
    dim: int = 128
    num_heads: int = 4
    context: int = 128
    vocab_size: int = 4096
    tokenizer_documents: int = 20_000
    objective: Objective = MaskedLanguageModeling()  # noqa: RUF009  # frozen

    def __post_init__(self) -> None:
        if self.vocab_size < 260:
            raise InputError(f"model.vocab_size={self.vocab_size}: must be at least 260, the bytes and a few special tokens")

    def build(self, vocab_size: int) -> torch.nn.Module:
        """Random weights from torch's generator. Errors: a width that does not divide into heads."""
        from transformers import BertConfig, BertForMaskedLM

        if self.dim % self.num_heads:
            raise InputError(f"model.dim={self.dim}: cannot be divided into model.num_heads={self.num_heads}")
        config = BertConfig(
            vocab_size=vocab_size, hidden_size=self.dim, num_hidden_layers=self.num_layers, num_attention_heads=self.num_heads,
            intermediate_size=4 * self.dim, max_position_embeddings=self.context + 1, hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0, pad_token_id=PAD, mask_token_id=MASK, bos_token_id=END, eos_token_id=END,
        )  # fmt: skip
        model: torch.nn.Module = BertForMaskedLM(config)
        return model

    def tokenizer(self, source: Pool) -> PreTrainedTokenizerBase:
        """Byte-level BPE of the pool's texts."""
        from tokenizers.processors import TemplateProcessing
        from transformers import PreTrainedTokenizerFast

        trained = train_tokenizer(source, self.objective.sides, self.vocab_size, self.tokenizer_documents, SPECIAL)
        pad, end, mask = SPECIAL
        trained.post_processor = TemplateProcessing(single=f"{end} $A {end}", pair=f"{end} $A {end} $B {end}", special_tokens=[(end, END)])
        return PreTrainedTokenizerFast(
            tokenizer_object=trained, pad_token=pad, eos_token=end, mask_token=mask, cls_token=end, sep_token=end,
            model_input_names=["input_ids", "attention_mask"],
        )  # fmt: skip
