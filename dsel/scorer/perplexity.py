"""How easy a document is for a model of the target."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from dsel.context import Context
from dsel.functional.likelihood import document_losses
from dsel.pool import TOKENS, Pool
from dsel.protocol import FittedScore, Objective


@dataclass(frozen=True)
class MeanLogLikelihood:
    """The fitted score: minus the mean token loss under `model`, in nats per token."""

    model: torch.nn.Module
    objective: Objective
    context: int
    tokens_per_batch: int
    without_tokens: float  # the score of a document that has nothing to predict

    def __call__(self, batch: pa.Table) -> npt.NDArray[np.float32]:
        """Scores (unit, 1)."""
        losses, counts = document_losses([self.model], self.objective, batch, self.context, self.tokens_per_batch)
        means = np.where(counts > 0, -losses[:, 0] / np.maximum(counts, 1), self.without_tokens)
        return means.astype(np.float32)[:, None]


@dataclass(frozen=True)
class Perplexity:
    """score = -NLL(document), the mean over its tokens, under a model tuned on the target: minus the logarithm of its perplexity.

    The model is the one that `cds` tunes (the same options give the same artifact); `tuned=false` takes the newest checkpoint as it
    is, which knows nothing of the target. `selector.keep=top` takes what the model finds easiest, boilerplate and repetition first;
    `selector.keep=middle` what is neither that nor noise. A document without tokens scores as if every token were equally likely.
    """

    tuned: bool = True
    num_steps: int = 150
    batch_size: int = 8
    learning_rate: float = 3e-4
    every: int = 25
    patience: int = 2
    tokens_per_batch: int = 2048

    reads = (TOKENS,)
    num_passes = 1.0  # forward passes over the pool

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        """Tune a copy of the newest model on the target, or take it as it is; the source is not looked at."""
        assert context.model is not None
        assert context.tokenizer is not None
        model = (
            context.tune(target, self.num_steps, self.batch_size, self.learning_rate, self.every, self.patience)
            if self.tuned
            else context.load(None)
        )
        without_tokens = -math.log(len(context.tokenizer))
        return MeanLogLikelihood(model, context.objective, context.model.context, self.tokens_per_batch, without_tokens)
