"""Near-duplicates: documents that share most of their word 5-grams. MinHash finds candidates; each is checked exactly."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt

from dsel.functional.hashing import Texts
from dsel.functional.ngrams import Ngrams

SHINGLE, JACCARD = 5, 0.8
PERMUTATIONS, BANDS = 128, 32  # 4 rows a band: a pair at .8 shares none with probability (1 - .8**4)**32 = 5e-8
SLACK = 0.2  # that a signature may be below: 5.7 standard deviations of its mean, sqrt(.8 * .2 / 128)
_PRIME = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_S29, _S32 = np.uint64(29), np.uint64(32)

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]


def near_duplicates(texts: Texts, jaccard: float = JACCARD) -> npt.NDArray[np.bool_]:
    """Which documents (document,) share at least `jaccard` of their shingles, |A & B| / |A | B|, with one that stands before them.

    MinHash signatures and their bands (LSH) are those of the package rensa.
    """
    hashes, ends = shingles(texts)
    found = np.zeros(len(ends) - 1, dtype=np.bool_)
    some = _candidates(hashes, ends)
    if len(some):
        hashes, ends = _distinct(*_take(hashes, ends, some))
        rows = np.array(_signatures(hashes, ends).to_rows(), dtype=np.uint32)
        before = np.stack([_before(band) for band in np.split(rows, BANDS, axis=1)])
        found[some] = _check(before, rows, hashes, ends, jaccard, PERMUTATIONS * (jaccard - SLACK))
    return found


def shingles(texts: Texts, size: int = SHINGLE) -> tuple[Hashes, Ints]:
    """Hashes of the runs of `size` tokens of each document, and where each document's begin (document + 1,).

    Tokens are those of `ngrams`: words and runs of punctuation, lower-cased. A document of fewer has all of them as one shingle.
    """
    tokens, ends = Ngrams(1, 2**31 - 1).buckets(texts)
    hashes, stops = _shingle(tokens, ends, size)
    return hashes, stops


def _signatures(hashes: Hashes, ends: Ints) -> Any:
    from rensa import RMinHash

    return RMinHash.digest_matrix_from_flat_token_hashes(hashes, ends.astype(np.uint64), PERMUTATIONS, 0)


def _candidates(hashes: Hashes, ends: Ints) -> Ints:
    """Documents that share a band with another, in order."""
    from rensa import RMinHashLSH

    index = RMinHashLSH(threshold=JACCARD, num_perm=PERMUTATIONS, num_bands=BANDS)
    flags = np.array(index.query_duplicate_flags_matrix_one_shot(_signatures(hashes, ends)), dtype=bool)
    return np.flatnonzero(flags & (np.diff(ends) > 0)).astype(np.int64)


def _take(hashes: Hashes, ends: Ints, some: Ints) -> tuple[Hashes, Ints]:
    sizes = np.diff(ends)[some]
    stops = np.r_[0, np.cumsum(sizes)]
    at = np.arange(stops[-1]) + np.repeat(ends[:-1][some] - stops[:-1], sizes)
    return hashes[at], stops


def _before(band: npt.NDArray[np.uint32]) -> Ints:
    """For each document of a band (document, row) the last one above with the same rows; -1 where there is none."""
    key = np.zeros(len(band), np.uint64)
    for row in band.T:
        key = (key ^ row) * _PRIME
        key ^= key >> _S32
    order = np.argsort(key, kind="stable")
    same = key[order][1:] == key[order][:-1]
    before = np.full(len(key), -1, np.int64)
    before[order[1:][same]] = order[:-1][same]
    return before


@nb.njit(nogil=True, cache=True)
def _shingle(tokens, ends, size):  # type: ignore[no-untyped-def]
    hashes, stops = np.empty(len(tokens), np.uint64), np.zeros(len(ends), np.int64)
    last = 0
    for document in range(len(ends) - 1):
        start, stop = ends[document], ends[document + 1]
        for end in range(min(start + size, stop), stop + 1 if stop > start else start):
            value = np.uint64(7)
            for at in range(max(start, end - size), end):
                value = (value ^ np.uint64(tokens[at])) * _PRIME
                value ^= value >> _S32
            value = (value ^ (value >> _S29)) * _MIX
            hashes[last] = value ^ (value >> _S32)
            last += 1
        stops[document + 1] = last
    return hashes[:last], stops


@nb.njit(nogil=True, cache=True)
def _distinct(hashes, ends):  # type: ignore[no-untyped-def]
    """Each document's hashes in order, without repeats."""
    stops, last = np.zeros(len(ends), np.int64), 0
    for document in range(len(ends) - 1):
        own = np.sort(hashes[ends[document] : ends[document + 1]])
        for at in range(len(own)):
            if at == 0 or own[at] != own[at - 1]:
                hashes[last] = own[at]
                last += 1
        stops[document + 1] = last
    return hashes[:last], stops


@nb.njit(nogil=True, cache=True)
def _is_near(hashes, a, a_stop, b, b_stop, jaccard):  # type: ignore[no-untyped-def]
    """Whether two sorted runs share so much; given up as soon as they cannot any more."""
    both = a_stop - a + b_stop - b
    shared, left = 0, min(a_stop - a, b_stop - b)
    while left > 0:
        if shared + left < jaccard * (both - shared - left):
            return False
        if hashes[a] == hashes[b]:
            shared, a, b = shared + 1, a + 1, b + 1
        elif hashes[a] < hashes[b]:
            a += 1
        else:
            b += 1
        left = min(a_stop - a, b_stop - b)
    return shared > 0 and shared >= jaccard * (both - shared)


@nb.njit(nogil=True, cache=True)
def _check(before, rows, hashes, ends, jaccard, least):  # type: ignore[no-untyped-def]
    """Which documents are near-duplicates of one before them; `before` (band, document) leads to those that share a band.

    Only pairs of which `least` signature rows (document, row) are equal are compared shingle by shingle.
    """
    found, seen = np.zeros(len(rows), np.bool_), np.full(len(rows), -1, np.int64)
    for one in range(len(rows)):
        for band in range(len(before)):
            other = before[band, one]
            while other >= 0 and not found[one]:
                if seen[other] != one:
                    equal = 0
                    for row in range(rows.shape[1]):
                        equal += rows[one, row] == rows[other, row]
                    if equal >= least:
                        found[one] = _is_near(hashes, ends[one], ends[one + 1], ends[other], ends[other + 1], jaccard)
                seen[other] = one
                other = before[band, other]
    return found
