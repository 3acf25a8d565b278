"""Lexical similarity to the target by BM25."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.context import Context
from dsel.error import InputError
from dsel.functional.lexical import bm25, document_frequency, inverse_document_frequency
from dsel.functional.ngrams import Ngrams
from dsel.pool import TEXT, Pool
from dsel.protocol import FittedScore


@dataclass(frozen=True)
class Similarity:
    """The fitted score: BM25 of a document for the weighted n-grams of each query (query, bucket)."""

    ngrams: Ngrams
    weights: npt.NDArray[np.float64]
    k1: float
    b: float
    slope: float
    mean_length: float

    def __call__(self, batch: pa.Table) -> npt.NDArray[np.float32]:
        """Scores (unit, query); 0 for a document that shares nothing with it."""
        options = (self.k1, self.b, self.slope, self.mean_length)
        return np.stack([bm25(self.ngrams, batch[TEXT], weights, *options) for weights in self.weights], 1).astype(np.float32)


@dataclass(frozen=True)
class Bm25:
    """BM25 with the target sample as one long query (Robertson & Zaragoza 2009, section 3.4; the query's part as in Okapi).

    score(d) = sum over the n-grams t of d, each once, of idf(t) * tf (k1 + 1) / (tf + k1 (1 - b + b l)) * qtf (k3 + 1) / (qtf + k3),
    over 1 - slope + slope l. tf and qtf: how often t stands in d and in the whole target sample. l: the number of d's n-grams over
    the source's mean. idf(t) = max(0, log((N - n + 0.5) / (n + 0.5))), where n of the source sample's N documents hold t.

    `k1` and `k3` say how slowly more of the same stops to count. `b` is BM25's normalisation of length, which is meant for queries of
    a few words: with a target sample as the query long documents still win because they hold more of its words. `slope` divides by
    length as well (pivoted normalisation, Singhal et al. 1996); 0 is plain BM25, 1 prefers short documents. `each`: a column for every
    target document as a query of its own.
    """

    max_ngram: int = 2
    num_features: int = 2**18
    k1: float = 1.2
    b: float = 0.75
    k3: float = 16.0
    slope: float = 0.75
    each: bool = False

    reads = (TEXT,)

    def __post_init__(self) -> None:
        for name in ("k1", "k3"):
            if getattr(self, name) < 0:
                raise InputError(f"scorer.{name}={getattr(self, name)}: must be at least 0")
        for name in ("b", "slope"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"scorer.{name}={getattr(self, name)}: must be from 0 (long documents win) to 1 (length is taken out)")

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        """Document frequencies of the source, and the target's n-grams as the query."""
        ngrams = Ngrams(self.max_ngram, self.num_features)
        frequency, total = document_frequency(ngrams, source.table[TEXT])
        queries = [target.table[TEXT].slice(row, 1) for row in range(len(target))] if self.each else [target.table[TEXT]]
        inverse = inverse_document_frequency(frequency, len(source))
        counts = [ngrams.count(texts) for texts in queries]
        weights = np.stack([inverse * count * (self.k3 + 1) / np.maximum(count + self.k3, 1) for count in counts])
        return Similarity(ngrams, weights, self.k1, self.b, self.slope, max(total / len(source), 1.0))
