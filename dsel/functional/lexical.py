"""BM25 over hashed n-grams: how much of a query's vocabulary a document holds. Compiled, no Python string per document.

Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond (2009, doi 10.1561/1500000019), section 3.4; and
Singhal, Buckley and Mitra, Pivoted document length normalization (SIGIR 1996).
"""

from __future__ import annotations

from collections.abc import Iterator

import numba as nb
import numpy as np
import numpy.typing as npt

from dsel.functional.hashing import Texts
from dsel.functional.ngrams import Counts, Ngrams

DOCUMENTS = 8192  # whose n-grams are listed at a time

Weights = npt.NDArray[np.float64]


def document_frequency(ngrams: Ngrams, texts: Texts) -> tuple[Counts, int]:
    """In how many of `texts` each bucket stands (bucket,), and how many n-grams they hold in all."""
    frequency, total = np.zeros(ngrams.num_buckets, dtype=np.int64), 0
    for values, ends in _listed(ngrams, texts):
        _count_documents(values, ends, frequency)
        total += len(values)
    return frequency, total


def inverse_document_frequency(frequency: Counts, num_documents: int) -> Weights:
    """log((N - n + 0.5) / (n + 0.5)) of each bucket (bucket,), 0 where it stands in more than half of the N documents."""
    weights: Weights = np.maximum(np.log((num_documents - frequency + 0.5) / (frequency + 0.5)), 0.0)
    return weights


def bm25(ngrams: Ngrams, texts: Texts, weights: Weights, k1: float, b: float, slope: float, mean_length: float) -> Weights:
    """Sum over a document's different buckets of weight tf (k1 + 1) / (tf + k1 (1 - b + b length)), over 1 - slope + slope length.

    `weights` (bucket,) are 0 for what the query lacks; tf is how often the bucket stands in the document, length the number of
    its n-grams over `mean_length`. Returns (document,).
    """
    weights, parts = np.ascontiguousarray(weights, dtype=np.float64), [np.empty(0)]
    for values, ends in _listed(ngrams, texts):
        length = np.diff(ends) / mean_length
        parts.append(_sum(values, ends, weights, k1, k1 * (1.0 - b + b * length)) / np.maximum(1.0 - slope + slope * length, 1e-9))
    return np.concatenate(parts)


def _listed(ngrams: Ngrams, texts: Texts) -> Iterator[tuple[npt.NDArray[np.int32], Counts]]:
    for start in range(0, len(texts), DOCUMENTS):
        yield ngrams.buckets(texts.slice(start, DOCUMENTS))


# The n-grams come as a list, not from the hashing loop itself, which is in another file: numba's cache would not see it change.
# The list costs a few per cent; hashing takes most of the time.


@nb.njit(nogil=True, cache=True)
def _count_documents(values, ends, frequency):  # type: ignore[no-untyped-def]
    last = np.full(len(frequency), -1, np.int64)  # document in which the bucket was seen last
    for document in range(len(ends) - 1):
        for i in range(ends[document], ends[document + 1]):
            if last[values[i]] != document:
                last[values[i]] = document
                frequency[values[i]] += 1


@nb.njit(nogil=True, cache=True)
def _sum(values, ends, weights, k1, damping):  # type: ignore[no-untyped-def]
    scores = np.zeros(len(ends) - 1)
    counts, found = np.zeros(len(weights), np.int32), np.empty(len(weights), np.int32)
    for document in range(len(ends) - 1):
        num_found, total = 0, 0.0
        for i in range(ends[document], ends[document + 1]):
            bucket = values[i]
            if weights[bucket] != 0.0:
                if counts[bucket] == 0:
                    found[num_found] = bucket
                    num_found += 1
                counts[bucket] += 1
        for i in range(num_found):
            bucket = found[i]
            total += weights[bucket] * counts[bucket] * (k1 + 1.0) / (counts[bucket] + damping[document])
            counts[bucket] = 0
        scores[document] = total
    return scores
