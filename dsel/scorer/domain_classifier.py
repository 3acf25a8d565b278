"""A domain classifier on hashed n-grams."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.context import Context
from dsel.functional.hashing import draw_by_text
from dsel.functional.ngrams import Ngrams
from dsel.pool import TEXT, Pool
from dsel.protocol import FittedScore


@dataclass(frozen=True)
class NgramLogOdds:
    """The fitted score: log-odds of the target from which hashed n-grams a text has, scaled to norm 1."""

    ngrams: Ngrams
    weights: npt.NDArray[np.float32]
    bias: float

    def __call__(self, batch: pa.Table) -> npt.NDArray[np.float32]:
        """Scores (unit, 1)."""
        scores = self.ngrams.score(batch[TEXT], self.weights, distinct=True) + self.bias
        return scores.astype(np.float32)[:, None]


@dataclass(frozen=True)
class DomainClassifier:
    """p(target | text) by logistic regression on hashed word n-grams (the classifier of arXiv 2109.07591 in its cheap form).

    Scores are log-odds: the order of the probabilities without their saturation. Negatives are `negatives` times as many
    documents of the pool as the target has, drawn by their texts and the seed, so a few hidden target documents may be among them.
    Classes are weighted to count the same.
    """

    max_ngram: int = 2
    num_features: int = 2**18
    negatives: float = 5.0
    regularization: float = 10.0

    reads = (TEXT,)

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        """Target sample against a random sample of the source."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import normalize

        count = min(len(source), max(1, int(self.negatives * len(target))))
        negatives = source.take(draw_by_text(source.table[TEXT], count, int(context.rng.integers(2**31))))
        ngrams = Ngrams(self.max_ngram, self.num_features)
        texts = pa.chunked_array([*target.table[TEXT].chunks, *negatives.table[TEXT].chunks])
        labels = np.r_[np.ones(len(target)), np.zeros(count)]
        model = LogisticRegression(C=self.regularization, class_weight="balanced", max_iter=1000, solver="liblinear", random_state=0)
        features = ngrams.matrix(texts)
        features.data[:] = 1  # whether, not how often: that finds more of the target (benchmarks/selection.py has the AUC)
        model.fit(normalize(features), labels)
        return NgramLogOdds(ngrams, model.coef_[0].astype(np.float32), float(model.intercept_[0]))
