"""Contrastive data selection."""

from __future__ import annotations

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
class LossDifference:
    """The fitted score: mean token loss under `general` minus that under `tuned`, in nats per token."""

    general: torch.nn.Module
    tuned: torch.nn.Module
    objective: Objective
    context: int
    tokens_per_batch: int

    def __call__(self, batch: pa.Table) -> npt.NDArray[np.float32]:
        """Scores (unit, 1); a document without tokens scores 0, as one on which the two models agree."""
        models = [self.general, self.tuned]
        losses, counts = document_losses(models, self.objective, batch, self.context, self.tokens_per_batch)
        return ((losses[:, 0] - losses[:, 1]) / np.maximum(counts, 1)).astype(np.float32)[:, None]


@dataclass(frozen=True)
class Cds:
    """Contrastive data selection (arXiv 2109.07591; Moore & Lewis 2010): keep what a model tuned on the target finds easier.

    score = NLL(pretrained) - NLL(tuned), each the mean over the document's tokens: the negative of the released code's, whose
    lowest is best. The tuned model is the newest checkpoint, fine-tuned on the target sample for at most `num_steps` steps
    of `batch_size` blocks; it is measured every `every` steps on held-out target documents, and the best one is used.
    """

    num_steps: int = 150
    batch_size: int = 8
    learning_rate: float = 3e-4
    every: int = 25
    patience: int = 2
    tokens_per_batch: int = 2048

    reads = (TOKENS,)
    num_passes = 2.0  # forward passes over the pool

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        """Tune a copy of the newest model on the target; the source is not looked at."""
        assert context.model is not None
        tuned = context.tune(target, self.num_steps, self.batch_size, self.learning_rate, self.every, self.patience)
        return LossDifference(context.load(None), tuned, context.objective, context.model.context, self.tokens_per_batch)
