"""Dense vectors of texts by signed feature hashing of their n-grams (arXiv 0902.2206), compiled, without a model."""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.error import InputError
from dsel.functional.ngrams import Ngrams
from dsel.pool import TEXT

_PRIME = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_S29, _S31, _S32, _S63 = np.uint64(29), np.uint64(31), np.uint64(32), np.uint64(63)
_LOW = np.uint64(0x7FFFFFFF)


@dataclass(frozen=True)
class NgramVectors:
    """Each n-gram stands for one of `dim` coordinates and a sign, both drawn by its bucket, and counts log(1 + its count).

    The product of two vectors is then that of the bags of n-grams, but for noise of about 1 / sqrt(dim).
    """

    ngrams: Ngrams
    dim: int

    def __post_init__(self) -> None:
        if not 2 <= self.dim < 2**24:
            raise InputError(f"dim={self.dim}: must be from 2 to 2**24 - 1")

    def __call__(self, table: pa.Table) -> npt.NDArray[np.float32]:
        """Vectors (row, dim) of norm 1 of the table's texts; zeros for a text without n-grams."""
        buckets, ends = self.ngrams.buckets(table[TEXT])
        vectors: npt.NDArray[np.float32] = _vectors(buckets, ends, self.ngrams.num_buckets, self.dim, _LOG)
        return vectors


_LOG = np.log1p(np.arange(1024.0))  # a table, since most counts are small


@nb.njit(nogil=True, cache=True)
def _place(bucket, dim):  # type: ignore[no-untyped-def]
    """The coordinate and the sign of a bucket."""
    name = (np.uint64(bucket) + np.uint64(1)) * _PRIME
    name = (name ^ (name >> _S29)) * _MIX
    name ^= name >> _S32
    return ((name & _LOW) * np.uint64(dim)) >> _S31, 1.0 if name >> _S63 else -1.0


@nb.njit(nogil=True, cache=True)
def _vectors(buckets, ends, num_buckets, dim, log):  # type: ignore[no-untyped-def]
    vectors = np.zeros((len(ends) - 1, dim), np.float32)
    counts = np.zeros(num_buckets, np.int32)
    for document in range(len(ends) - 1):
        start, stop = ends[document], ends[document + 1]
        for i in range(start, stop):
            counts[buckets[i]] += 1
        vector = vectors[document]
        for i in range(start, stop):
            count = counts[buckets[i]]
            if count:  # the n-gram's first place in the document
                counts[buckets[i]] = 0
                at, sign = _place(buckets[i], dim)
                vector[at] += np.float32(sign * (log[count] if count < len(log) else np.log1p(count)))
        square = 0.0
        for value in vector:
            square += value * value
        if square > 0:
            vector *= np.float32(1 / np.sqrt(square))
    return vectors
