"""Hashed n-grams straight from Arrow's UTF-8 buffers: compiled, without the interpreter's lock, no Python string per document.

A text is cut into tokens by the kinds in `characters`: runs of word characters, single letters of unspaced scripts, runs of
punctuation. Tokens are lower-cased; n-grams of 1 to `order` tokens are hashed into `num_buckets`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dsel.error import InputError
from dsel.functional.characters import Characters, characters, python_characters
from dsel.functional.cores import num_cores
from dsel.functional.hashing import Texts, text_buffers
from dsel.functional.ngram_kernels import count_buckets, list_buckets, score_documents

DOCUMENTS = 1 << 12  # that a thread counts at a time
KNOWN = 1 << 20  # SHA-256 buckets that a thread remembers
TWO_LETTERS = "[\u0130\u03a3]"  # whose lower case is not one character, or depends on the neighbours: I with a dot, final sigma

if TYPE_CHECKING:
    import scipy.sparse

Counts = npt.NDArray[np.int64]
_local = threading.local()


@dataclass(frozen=True)
class Ngrams:
    """Which n-grams are counted, and how. `python=True` gives exactly the features of the `data-selection` package 1.0.3:
    Python's word characters and lower case, SHA-256 modulo `num_buckets` (arXiv 2302.03169)."""

    order: int = 2
    num_buckets: int = 10_000
    python: bool = False

    def __post_init__(self) -> None:
        if self.order < 1:
            raise InputError(f"max_ngram={self.order}: must be at least 1")
        if not 2 <= self.num_buckets < 2**31:
            raise InputError(f"num_buckets={self.num_buckets}: must be from 2 to 2**31 - 1")

    def count(self, texts: Texts) -> Counts:
        """How often each bucket (bucket,) comes in all of `texts` together."""

        def count(part: tuple[npt.NDArray[np.uint8], npt.NDArray[np.integer[Any]]]) -> Counts:
            total = np.zeros(self.num_buckets, dtype=np.int64)
            count_buckets(*part, *self._tables(), total)
            return total

        parts = [part for data, offsets in text_buffers(self._prepared(texts)) for part in _cut(data, offsets)]
        with ThreadPoolExecutor(num_cores()) as threads:
            return sum(threads.map(count, parts), np.zeros(self.num_buckets, dtype=np.int64))

    def buckets(self, texts: Texts) -> tuple[npt.NDArray[np.int32], Counts]:
        """The buckets of all n-grams, document after document, and where each document's begin (document + 1,)."""
        found, ends = [np.empty(0, np.int32)], [np.zeros(1, np.int64)]
        for data, offsets in text_buffers(self._prepared(texts)):
            values, stops = list_buckets(data, offsets, *self._tables())
            found.append(values)
            ends.append(stops + ends[-1][-1])
        return np.concatenate(found), np.concatenate(ends)

    def matrix(self, texts: Texts) -> scipy.sparse.csr_matrix:
        """Counts (document, bucket) in float32."""
        import scipy.sparse

        values, ends = self.buckets(texts)
        ones = np.ones(len(values), np.float32)
        counts = scipy.sparse.csr_matrix((ones, values, ends), shape=(len(ends) - 1, self.num_buckets))
        counts.sum_duplicates()
        return counts

    def score(self, texts: Texts, weights: npt.NDArray[np.float64 | np.float32], distinct: bool = False) -> npt.NDArray[np.float64]:
        """Sum of `weights` (bucket,) over each document's n-grams (document,). `distinct`: each bucket counts once, and the sum is over
        the square root of their number, which is the product with a vector of zeros and ones scaled to norm 1. Sums are of float64; weights
        of float32 lie closer to the processor."""
        parts = [np.empty(0)]
        weights = np.ascontiguousarray(weights)
        for data, offsets in text_buffers(self._prepared(texts)):
            parts.append(score_documents(data, offsets, *self._tables(), weights, distinct))
        return np.concatenate(parts)

    def _prepared(self, texts: Texts) -> Texts:
        """For Python's lower case: texts with one of the two letters that no table lowers are lowered here."""
        if not self.python:
            return texts
        array = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
        odd = pc.match_substring_regex(array, TWO_LETTERS)
        if not pc.any(odd).as_py():
            return texts
        lowered = [text.lower() for text in array.filter(odd).to_pylist()]
        return pc.replace_with_mask(array, odd, pa.array(lowered, array.type))

    def _tables(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint32], int, int, npt.NDArray[np.uint64] | None]:
        known: Characters = python_characters() if self.python else characters()
        return known.kind, known.lower, self.order, self.num_buckets, _memory(self.num_buckets) if self.python else None


def _memory(num_buckets: int) -> npt.NDArray[np.uint64]:
    """This thread's table of SHA-256 buckets found so far: two 64-bit hashes of the n-gram, and its bucket."""
    memories: dict[int, npt.NDArray[np.uint64]] = vars(_local).setdefault("memories", {})
    return memories.setdefault(num_buckets, np.zeros((KNOWN, 3), dtype=np.uint64))


def _cut(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.integer[Any]]) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]]:
    """Runs of documents, a thread's work at a time."""
    for start in range(0, len(offsets) - 1, DOCUMENTS):
        yield data, offsets[start : start + DOCUMENTS + 1]
