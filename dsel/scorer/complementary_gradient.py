"""The complementary gradient score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from dsel.context import Context
from dsel.functional.gradients import mean_gradient, orthogonal_alignment, unfreeze
from dsel.pool import TOKENS, Pool
from dsel.protocol import FittedScore, Scorer


@dataclass(frozen=True)
class BucketScore:
    """The fitted score: that of the bucket in which the base score falls; inside a bucket the base score orders."""

    base: FittedScore
    edges: npt.NDArray[np.float32]
    bucket_scores: npt.NDArray[np.float32]

    def __call__(self, batch: pa.Table) -> npt.NDArray[np.float32]:
        """Scores (unit, 1): rank of the bucket, plus a part below one for the place inside it."""
        base = self.base(batch)[:, 0]
        bucket = np.searchsorted(self.edges, base, side="right")
        rank = np.argsort(np.argsort(self.bucket_scores, kind="stable"), kind="stable")
        inside = 0.5 + np.arctan(base) / np.pi  # monotone, between 0 and 1
        return (rank[bucket] + 0.98 * inside).astype(np.float32)[:, None]


@dataclass(frozen=True)
class ComplementaryGradient:
    """Prefer data that helps where fine-tuning will not ("ORTH" in the released code of arXiv 2109.07591).

    The pool is cut into `num_buckets` buckets of equal size by the base scorer's score. With a bucket's gradient g_b (mean
    over at most `blocks_per_bucket` blocks of its documents), the fine-tuning set's g_ft and the held-out target's g_dev, at
    the newest checkpoint: g' = g_b - (g_b.g_ft / g_ft.g_ft) g_ft, score = g'.g_dev / |g'|.
    Buckets are cut on a sample of `sample` pool documents.
    """

    scorer: Scorer
    num_buckets: int = 100
    blocks_per_bucket: int = 8
    target_blocks: int = 64
    sample: int = 2_000

    @property
    def reads(self) -> tuple[str, ...]:
        """Tokens for the gradients, and what the base scorer reads."""
        return (TOKENS, *(column for column in self.scorer.reads if column != TOKENS))

    @property
    def num_passes(self) -> float:
        """Forward passes over the pool: the base scorer's. Gradients, and the first scores, are of a sample."""
        return float(getattr(self.scorer, "num_passes", 0.0))

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        """Fit the base scorer, cut buckets, and compute a gradient for each."""
        assert context.model is not None
        base, length = self.scorer.fit(source, target, context), context.model.context
        rows = np.sort(context.rng.choice(len(source), min(self.sample, len(source)), replace=False))
        sample = source.take(rows)
        values = base(sample.table)[:, 0]
        edges = np.unique(np.quantile(values, np.linspace(0, 1, self.num_buckets + 1)[1:-1]).astype(np.float32))
        bucket = np.searchsorted(edges, values, side="right")
        model = unfreeze(context.load(None))

        def gradient(pool: Pool, count: int) -> torch.Tensor:
            return mean_gradient(model, context.objective, context.objective.some(pool.table, count, length))

        tuned, held_out = gradient(context.finetune, self.target_blocks), gradient(context.held_out, self.target_blocks)
        scores = np.full(len(edges) + 1, -np.inf, dtype=np.float32)  # a bucket that the sample leaves empty comes last
        for number in np.unique(bucket):
            own = gradient(sample.take(np.flatnonzero(bucket == number)), self.blocks_per_bucket)
            scores[number] = orthogonal_alignment(own, tuned, held_out)
        return BucketScore(base, edges, scores)
