"""An encoder-decoder for translation from scratch, with one vocabulary for both sides, trained on the pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsel.error import InputError
from dsel.objective.translation import Translation
from dsel.pool import Pool
from dsel.tokens import train_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

PAD, END = "<pad>", "</s>"


@dataclass(frozen=True)
class Seq2Seq:
    """Marian-like, by transformers' config: `num_layers` on each side, sinusoidal positions, one embedding for both sides and the output.

    Sides are cut at `context` tokens. The decoder begins with the end token, as fairseq's do. `vocab_size` is that of the byte-level
    BPE tokenizer, which is trained on both sides of at most `tokenizer_documents` pairs of the pool.
    """

    num_layers: int = 2
    dim: int = 128
    ffn_dim: int = 512
    num_heads: int = 4
    context: int = 64
    vocab_size: int = 2048
    dropout: float = 0.1
    activation: str = "relu"
    tokenizer_documents: int = 20_000

    def __post_init__(self) -> None:
        if self.dim % self.num_heads:
            raise InputError(f"model.dim={self.dim}: must be a multiple of model.num_heads={self.num_heads}")
        if self.vocab_size < 260:
            raise InputError(f"model.vocab_size={self.vocab_size}: must be at least 260, the bytes and a few special tokens")

    @property
    def objective(self) -> Translation:
        """Translation."""
        return Translation()

    def build(self, vocab_size: int) -> torch.nn.Module:
        """Random weights from torch's generator."""
        from transformers import MarianConfig, MarianMTModel

        config = MarianConfig(
            vocab_size=vocab_size,
            decoder_vocab_size=vocab_size,
            d_model=self.dim,
            encoder_layers=self.num_layers,
            decoder_layers=self.num_layers,
            encoder_attention_heads=self.num_heads,
            decoder_attention_heads=self.num_heads,
            encoder_ffn_dim=self.ffn_dim,
            decoder_ffn_dim=self.ffn_dim,
            max_position_embeddings=self.context + 1,
            dropout=self.dropout,
            attention_dropout=0.0,
            activation_function=self.activation,
            scale_embedding=True,
            share_encoder_decoder_embeddings=True,
            tie_word_embeddings=True,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=1,
            decoder_start_token_id=1,
            forced_eos_token_id=None,
        )
        model: torch.nn.Module = MarianMTModel(config)
        return model

    def tokenizer(self, source: Pool) -> PreTrainedTokenizerBase:
        """Byte-level BPE, one vocabulary for both sides. Errors: the pool holds no pairs."""
        from transformers import PreTrainedTokenizerFast

        trained = train_tokenizer(source, self.objective.sides, self.vocab_size, self.tokenizer_documents, [PAD, END])
        return PreTrainedTokenizerFast(tokenizer_object=trained, pad_token=PAD, eos_token=END)
