"""The loops under `ngrams`: one pass over a document's bytes, token by token. Compiled by numba; they hold no lock."""

from __future__ import annotations

import numba as nb
import numpy as np

from dsel.functional.characters import ALONE, SPACE
from dsel.functional.sha256 import sha256_mod

BUFFER = 8192  # buckets that are handed over at a time: a document may be of any length

_PRIME = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0xD6E8FEB86659FD93)
_1, _2, _3, _4 = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)  # unsigned indices: numba need not look for negative ones
_S6, _S27, _S31, _S32, _63 = np.uint64(6), np.uint64(27), np.uint64(31), np.uint64(32), np.uint64(63)


@nb.njit(nogil=True, cache=True, inline="always")
def _mix(value):  # type: ignore[no-untyped-def]
    value = (value ^ (value >> _S27)) * _MIX
    return value ^ (value >> _S31)


@nb.njit(nogil=True, cache=True, inline="always")
def _bucket(value, num_buckets):  # type: ignore[no-untyped-def]
    """The upper half of a hash, scaled to the buckets: no division."""
    return np.int64(((value >> _S32) * np.uint64(num_buckets)) >> _S32)


@nb.njit(nogil=True, cache=True, inline="always")
def _decode(data, at):  # type: ignore[no-untyped-def]
    """The code point at byte `at`, and the bytes that it takes."""
    first = np.uint32(data[at])
    if first < 0x80:
        return first, _1
    second = np.uint32(data[at + _1] & 0x3F)
    if first < 0xE0:
        return ((first & np.uint32(0x1F)) << np.uint32(6)) | second, _2
    third = np.uint32(data[at + _2] & 0x3F)
    if first < 0xF0:
        return ((first & np.uint32(0x0F)) << np.uint32(12)) | (second << np.uint32(6)) | third, _3
    fourth = np.uint32(data[at + _3] & 0x3F)
    return ((first & np.uint32(0x07)) << np.uint32(18)) | (second << np.uint32(12)) | (third << np.uint32(6)) | fourth, _4


@nb.njit(nogil=True, cache=True)
def _encode(data, start, stop, lower, out, size):  # type: ignore[no-untyped-def]
    """Append data[start:stop] in lower case to out[:size]; the new size."""
    while start < stop:
        code, width = _decode(data, start)
        start += width
        code = lower[code]
        if code < 0x80:
            out[size] = code
            size += 1
        elif code < 0x800:
            out[size], out[size + 1] = 0xC0 | (code >> 6), 0x80 | (code & 0x3F)
            size += 2
        elif code < 0x10000:
            out[size], out[size + 1], out[size + 2] = 0xE0 | (code >> 12), 0x80 | ((code >> 6) & 0x3F), 0x80 | (code & 0x3F)
            size += 3
        else:
            out[size], out[size + 1] = 0xF0 | (code >> 18), 0x80 | ((code >> 12) & 0x3F)
            out[size + 2], out[size + 3] = 0x80 | ((code >> 6) & 0x3F), 0x80 | (code & 0x3F)
            size += 4
    return size


@nb.njit(nogil=True, cache=True)
def _sha_bucket(data, lower, num_buckets, memory, places, first, last, one, two):  # type: ignore[no-untyped-def]
    """SHA-256 bucket of tokens first..last, whose bytes are at places[token % order]; remembered by the hashes `one`, `two`."""
    slot = one & np.uint64(len(memory) - 1)
    if memory[slot, 0] == one and memory[slot, 1] == two:
        return np.int64(memory[slot, 2])
    length = 0
    for token in range(first, last + 1):
        at = token % len(places)
        length += (places[at, 1] - places[at, 0]) * 3 // 2 + 2
    text = np.empty(length, np.uint8)
    size = 0
    for token in range(first, last + 1):
        at = token % len(places)
        if token > first:
            text[size] = 32
            size += 1
        size = _encode(data, np.uint64(places[at, 0]), np.uint64(places[at, 1]), lower, text, size)
    bucket = sha256_mod(text, size, num_buckets)
    memory[slot, 0], memory[slot, 1], memory[slot, 2] = one, two, np.uint64(bucket)
    return bucket


@nb.njit(nogil=True, cache=True)
def fill(data, at, stop, kind, lower, order, num_buckets, memory, state, places, num_tokens, out):  # type: ignore[no-untyped-def]
    """Put buckets of n-grams into `out` from byte `at` on, until it is full or the document ends at `stop`.

    Returns the byte reached, the tokens so far, and how many buckets are in `out`. `state` (order, 2) holds two hashes of the last
    n-gram of each order; `places` (order, 2) where the last tokens stand. Without `memory` no SHA-256: the hash itself decides.
    """
    size = 0
    while at < stop and size + order <= len(out):
        code, width = _decode(data, at)
        of = kind[code]
        if of == SPACE:
            at += width
            continue
        begin = at
        one, two = np.uint64(of) << _S32, np.uint64(7)  # above all letters: "b" and "`" must not be one
        while True:
            letter = np.uint64(lower[code])
            one = (one ^ letter) * _PRIME
            at += width
            if memory is not None:
                two = (two ^ letter) * _SECOND
            elif of != ALONE:
                while at < stop and data[at] < 0x80 and kind[data[at]] == of:  # ASCII needs no decoding
                    one = (one ^ np.uint64(lower[data[at]])) * _PRIME
                    at += _1
            if of == ALONE or at >= stop:
                break
            code, width = _decode(data, at)
            if kind[code] != of:
                break
        one = _mix(one)
        if memory is None and order == 2:  # the usual case spelled out: a fifth faster than the loops below
            if num_tokens:
                both = _mix(state[0, 0] * _PRIME + one)
                out[size + 1] = _bucket(both, num_buckets)
            out[size] = _bucket(one, num_buckets)
            size += 1 + (num_tokens > 0)
            state[0, 0] = one
            num_tokens += 1
            continue
        if memory is not None:
            two = _mix(two)
            places[num_tokens % order, 0], places[num_tokens % order, 1] = begin, at
        most = min(order, num_tokens + 1)
        for tokens in range(most - 1, 0, -1):  # the longest first: each grows from the one a token shorter that ended before
            state[tokens, 0] = _mix(state[tokens - 1, 0] * _PRIME + one)
            if memory is not None:
                state[tokens, 1] = _mix(state[tokens - 1, 1] * _SECOND + two)
        state[0, 0], state[0, 1] = one, two
        for tokens in range(most):
            if memory is not None:
                first = num_tokens - tokens
                bucket = _sha_bucket(data, lower, num_buckets, memory, places, first, num_tokens, state[tokens, 0], state[tokens, 1])
            else:
                bucket = _bucket(state[tokens, 0], num_buckets)
            out[size] = bucket
            size += 1
        num_tokens += 1
    return at, num_tokens, size


@nb.njit(nogil=True, cache=True)
def count_buckets(data, offsets, kind, lower, order, num_buckets, memory, total):  # type: ignore[no-untyped-def]
    out, state, places = np.empty(BUFFER + order, np.int32), np.zeros((order, 2), np.uint64), np.zeros((order, 2), np.int64)
    for document in range(len(offsets) - 1):
        at, stop, num_tokens = np.uint64(offsets[document]), np.uint64(offsets[document + 1]), 0
        while at < stop:
            at, num_tokens, size = fill(data, at, stop, kind, lower, order, num_buckets, memory, state, places, num_tokens, out)
            for i in range(size):
                total[out[i]] += 1


@nb.njit(nogil=True, cache=True)
def list_buckets(data, offsets, kind, lower, order, num_buckets, memory):  # type: ignore[no-untyped-def]
    out, state, places = np.empty(BUFFER + order, np.int32), np.zeros((order, 2), np.uint64), np.zeros((order, 2), np.int64)
    found = np.empty(max(BUFFER, (offsets[-1] - offsets[0]) * order // 3), np.int32)
    ends, end = np.empty(len(offsets) - 1, np.int64), 0
    for document in range(len(offsets) - 1):
        at, stop, num_tokens = np.uint64(offsets[document]), np.uint64(offsets[document + 1]), 0
        while at < stop:
            at, num_tokens, size = fill(data, at, stop, kind, lower, order, num_buckets, memory, state, places, num_tokens, out)
            if end + size > len(found):
                larger = np.empty(2 * (end + size), np.int32)
                larger[:end] = found[:end]
                found = larger
            found[end : end + size] = out[:size]
            end += size
        ends[document] = end
    return found[:end], ends


@nb.njit(nogil=True, cache=True)
def score_documents(data, offsets, kind, lower, order, num_buckets, memory, weights, distinct):  # type: ignore[no-untyped-def]
    out, state, places = np.empty(BUFFER + order, np.int32), np.zeros((order, 2), np.uint64), np.zeros((order, 2), np.int64)
    scores = np.zeros(len(offsets) - 1)
    seen = np.zeros(num_buckets // 64 + 1 if distinct else 1, np.uint64)  # a bit a bucket: they fit into the nearest cache
    for document in range(len(offsets) - 1):
        start, stop, num_tokens = np.uint64(offsets[document]), np.uint64(offsets[document + 1]), 0
        at, total, number = start, 0.0, np.uint64(0)
        while at < stop:
            at, num_tokens, size = fill(data, at, stop, kind, lower, order, num_buckets, memory, state, places, num_tokens, out)
            for i in range(size):
                bucket = np.uint64(out[i])
                if distinct:  # without a branch: which buckets repeat, no processor can guess
                    word, place = bucket >> _S6, bucket & _63
                    before = seen[word]
                    is_new = ~(before >> place) & _1
                    seen[word] = before | (_1 << place)
                    number += is_new
                    total += weights[bucket] * is_new
                else:
                    total += weights[bucket]
        if distinct:
            if num_tokens * order <= BUFFER:  # all of it is still in `out`
                for i in range(size):
                    seen[np.uint64(out[i]) >> _S6] = np.uint64(0)
            else:
                seen[:] = np.uint64(0)
            total /= np.sqrt(max(np.float64(number), 1.0))
        scores[document] = total
    return scores
