"""A domain classifier on a transformer encoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from dsel.context import Context
from dsel.error import InputError
from dsel.functional.embedding import Encoder, load_encoder
from dsel.pool import TEXT, TOKENS, Pool
from dsel.protocol import FittedScore


@dataclass(frozen=True)
class EncoderLogOdds:
    """The fitted score: log-odds of the target from a linear layer on the encoder's vectors."""

    encoder: Encoder
    head: torch.nn.Linear
    batch_size: int

    def __call__(self, batch: pa.Table) -> npt.NDArray[np.float32]:
        """Scores (unit, 1)."""
        scores = np.zeros((batch.num_rows, 1), dtype=np.float32)
        with torch.inference_mode():
            for which, tokens in self.encoder.rows(batch, self.batch_size):
                scores[which] = self.head(self.encoder.embed(tokens)).float().cpu().numpy()
        return scores


@dataclass(frozen=True)
class DomainEncoder:
    """p(target | text) by a transformer encoder with a linear layer (the BERT classifier of arXiv 2109.07591's code).

    `encoder`: "pretrained" = the run's own language model, newest checkpoint, without its head; "scratch" = a small BERT-like
    encoder on the run's tokens; "minilm" = the sentence encoder of the extra `dsel[encoder]`; else a folder or hub name for
    `AutoModel`. Whole network and head are trained for `num_steps`
    steps on half target, half pool documents, unless `frozen` keeps the encoder as it is. Documents are cut at `max_length` tokens.
    """

    encoder: str = "pretrained"
    frozen: bool = False
    num_steps: int = 100
    batch_size: int = 16
    learning_rate: float = 3e-4
    max_length: int = 128

    reads = (TOKENS, TEXT)
    num_passes = 1.0

    def __post_init__(self) -> None:
        if self.encoder == "scratch" and self.frozen:
            raise InputError("scorer.frozen=true: an encoder from scratch knows nothing; train it, or give another scorer.encoder")

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        """Target sample against documents drawn from the source."""
        with torch.random.fork_rng():
            torch.manual_seed(int(context.rng.integers(2**31)))
            encoder = self._encoder(context)
            encoder.model.requires_grad_(not self.frozen)
            config = encoder.model.config
            head = torch.nn.Linear(config.hidden_size, 1).to(next(encoder.model.parameters()).device)  # type: ignore[union-attr,arg-type]
            self._train(encoder, head, source, target, context.rng)
        encoder.model.eval()
        return EncoderLogOdds(encoder, head, self.batch_size * 4)

    def _encoder(self, context: Context) -> Encoder:
        if self.encoder == "pretrained":
            model = context.load(None).base_model
            assert context.model is not None
            return Encoder(model, min(self.max_length, context.model.context))  # type: ignore[arg-type]
        if self.encoder == "scratch":
            from transformers import BertConfig, BertModel

            assert context.tokenizer is not None
            shape = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512}
            config = BertConfig(vocab_size=len(context.tokenizer), max_position_embeddings=self.max_length, **shape)
            return Encoder(BertModel(config, add_pooling_layer=False), self.max_length)
        return load_encoder(self.encoder, self.max_length, "'pretrained', 'scratch', 'minilm'")

    def _train(self, encoder: Encoder, head: torch.nn.Linear, source: Pool, target: Pool, rng: np.random.Generator) -> None:
        trained = [p for p in [*encoder.model.parameters(), *head.parameters()] if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=self.learning_rate)
        encoder.model.train(not self.frozen)
        half = self.batch_size // 2
        for _ in range(self.num_steps):
            optimizer.zero_grad()
            for pool, sign in ((target, -1.0), (source, 1.0)):
                picked = pool.table.take(rng.integers(len(pool), size=half))
                _, tokens = next(encoder.rows(picked, half))
                loss = torch.nn.functional.softplus(sign * head(encoder.embed(tokens))).mean()
                loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
