"""Data selection with importance resampling: how much more likely a text is in the target than in the source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.context import Context
from dsel.functional.ngrams import Ngrams
from dsel.pool import TEXT, Pool
from dsel.protocol import FittedScore


@dataclass(frozen=True)
class LogImportance:
    """The fitted score: the sum over a text's n-grams of their log ratio between target and source."""

    ngrams: Ngrams
    log_ratio: npt.NDArray[np.float64]

    def __call__(self, batch: pa.Table) -> npt.NDArray[np.float32]:
        """Scores (unit, 1)."""
        return self.ngrams.score(batch[TEXT], self.log_ratio).astype(np.float32)[:, None]


@dataclass(frozen=True)
class Dsir:
    """score = log p(text | target) - log p(text | source) under bags of hashed n-grams (arXiv 2302.03169, equation 1).

    With `selector.keep=sample` the selection is the paper's: a draw without replacement in proportion to the importance.
    `smoothing` is added to both probabilities. The released code's 1e-8 punishes every n-gram that a small target sample lacks;
    the default comes to one occurrence in all and finds far more. `python_features=true` gives exactly the features of the
    `data-selection` package 1.0.3, a tenth as fast; it also leaves texts under 100 words out, which here is left to
    `data.min_characters`.
    """

    max_ngram: int = 2
    num_features: int = 10_000
    smoothing: float = 1e-4
    python_features: bool = False

    reads = (TEXT,)

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        """Count n-grams on both sides."""
        ngrams = Ngrams(self.max_ngram, self.num_features, self.python_features)
        log_target, log_source = (self._log_probability(ngrams.count(pool.table[TEXT])) for pool in (target, source))
        return LogImportance(ngrams, log_target - log_source)

    def _log_probability(self, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        log_probability: npt.NDArray[np.float64] = np.log(counts / max(counts.sum(), 1) + self.smoothing)
        return log_probability
