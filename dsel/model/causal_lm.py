"""A causal language model from scratch, with a tokenizer trained on the pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsel.error import InputError
from dsel.objective.language_modeling import LanguageModeling
from dsel.pool import Pool
from dsel.protocol import Objective
from dsel.tokens import train_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

END = "<|endoftext|>"


@dataclass(frozen=True)
class CausalLM:
    """GPT-2-like, by transformers' config, with tied embeddings. It learns texts, or with the objective `Instruction` the answers of pairs;
    then either side may have `context` tokens.

    The exact gelu is faster on a CPU than GPT-2's tanh form. `vocab_size` is that of the byte-level BPE tokenizer, which
    is trained on at most `tokenizer_documents` documents of the pool.
    """

    objective: Objective = LanguageModeling()  # noqa: RUF009  # frozen
    num_layers: int = 4
    dim: int = 128
    num_heads: int = 4
    context: int = 128
    vocab_size: int = 4096
    dropout: float = 0.0
    activation: str = "gelu"
    tokenizer_documents: int = 20_000

    def __post_init__(self) -> None:
        if self.dim % self.num_heads:
            raise InputError(f"model.dim={self.dim}: must be a multiple of model.num_heads={self.num_heads}")
        if self.vocab_size < 260:
            raise InputError(f"model.vocab_size={self.vocab_size}: must be at least 260, the bytes and a few special tokens")

    def build(self, vocab_size: int) -> torch.nn.Module:
        """Random weights from torch's generator."""
        from transformers import GPT2Config, GPT2LMHeadModel

        config = GPT2Config(
            n_layer=self.num_layers,
            n_embd=self.dim,
            n_head=self.num_heads,
            n_positions=self.context * len(self.objective.sides),
            vocab_size=vocab_size,
            activation_function=self.activation,
            resid_pdrop=self.dropout,
            embd_pdrop=self.dropout,
            attn_pdrop=self.dropout,
            bos_token_id=0,
            eos_token_id=0,
            tie_word_embeddings=True,
        )
        model: torch.nn.Module = GPT2LMHeadModel(config)
        return model

    def tokenizer(self, source: Pool) -> PreTrainedTokenizerBase:
        """Byte-level BPE. Errors: the pool has no column that the objective reads."""
        from transformers import PreTrainedTokenizerFast

        trained = train_tokenizer(source, self.objective.sides, self.vocab_size, self.tokenizer_documents, [END])
        return PreTrainedTokenizerFast(tokenizer_object=trained, bos_token=END, eos_token=END)
