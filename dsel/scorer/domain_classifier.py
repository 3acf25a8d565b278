"""A domain classifier on hashed n-grams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.pool import TEXT, Pool
from dsel.protocol import Context, FittedScore

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import HashingVectorizer


@dataclass(frozen=True)
class NgramLogOdds:
    """The fitted score: log-odds of the target from hashed n-grams."""

    vectorizer: HashingVectorizer
    weights: npt.NDArray[np.float32]
    bias: float

    def __call__(self, batch: pa.Table) -> npt.NDArray[np.float32]:
        """Scores (unit, 1)."""
        features = self.vectorizer.transform(batch[TEXT].to_pylist())
        scores: npt.NDArray[np.float32] = (features @ self.weights + self.bias).astype(np.float32)
        return scores[:, None]


@dataclass(frozen=True)
class DomainClassifier:
    """p(target | text) by logistic regression on hashed word n-grams (the classifier of arXiv 2109.07591 in its cheap form).

    Scores are log-odds: the order of the probabilities without their saturation. Negatives are `negatives` times as many
    documents of the pool as the target has, drawn at random, so a few hidden target documents may be among them.
    Classes are weighted to count the same.
    """

    max_ngram: int = 2
    num_features: int = 2**18
    negatives: float = 5.0
    regularization: float = 10.0

    reads = (TEXT,)

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        """Target sample against a random sample of the source."""
        from sklearn.feature_extraction.text import HashingVectorizer
        from sklearn.linear_model import LogisticRegression

        count = min(len(source), max(1, int(self.negatives * len(target))))
        negatives = source.take(np.sort(context.rng.choice(len(source), count, replace=False)))
        vectorizer = HashingVectorizer(
            n_features=self.num_features, ngram_range=(1, self.max_ngram), alternate_sign=False, dtype=np.float32
        )
        texts = target.table[TEXT].to_pylist() + negatives.table[TEXT].to_pylist()
        labels = np.r_[np.ones(len(target)), np.zeros(count)]
        model = LogisticRegression(C=self.regularization, class_weight="balanced", max_iter=1000, solver="liblinear", random_state=0)
        model.fit(vectorizer.transform(texts), labels)
        return NgramLogOdds(vectorizer, model.coef_[0].astype(np.float32), float(model.intercept_[0]))
