"""SHA-256 (FIPS 180-4) in compiled code, for hashes that must be those of another program."""

from __future__ import annotations

from math import isqrt

import numba as nb
import numpy as np


def _icbrt(n: int) -> int:
    root = int(n ** (1 / 3))
    while root**3 > n:
        root -= 1
    while (root + 1) ** 3 <= n:
        root += 1
    return root


_PRIMES = [n for n in range(2, 312) if all(n % d for d in range(2, isqrt(n) + 1))]
_START = np.array([isqrt(p << 64) & 0xFFFFFFFF for p in _PRIMES[:8]], dtype=np.uint32)  # fractions of square roots of primes
_ROUND = np.array([_icbrt(p << 96) & 0xFFFFFFFF for p in _PRIMES], dtype=np.uint32)  # and of cube roots


@nb.njit(nogil=True, cache=True, inline="always")
def _rotate(value, by):  # type: ignore[no-untyped-def]
    return (value >> np.uint32(by)) | (value << np.uint32(32 - by))


@nb.njit(nogil=True, cache=True)
def sha256_mod(text, size, modulus):  # type: ignore[no-untyped-def]
    """SHA-256 of text[:size], as one big number, modulo `modulus` (below 2**32)."""
    num_blocks = (size + 8) // 64 + 1
    padded = np.zeros(num_blocks * 64, np.uint8)
    padded[:size] = text[:size]
    padded[size] = 0x80
    bits = np.uint64(size) * np.uint64(8)
    for i in range(8):
        padded[-1 - i] = np.uint8((bits >> np.uint64(8 * i)) & np.uint64(255))
    digest, word = _START.copy(), np.empty(64, np.uint32)
    for block in range(num_blocks):
        for i in range(16):
            at = block * 64 + i * 4
            word[i] = (
                (np.uint32(padded[at]) << np.uint32(24))
                | (np.uint32(padded[at + 1]) << np.uint32(16))
                | (np.uint32(padded[at + 2]) << np.uint32(8))
                | np.uint32(padded[at + 3])
            )
        for i in range(16, 64):
            old, new = word[i - 15], word[i - 2]
            low = _rotate(old, 7) ^ _rotate(old, 18) ^ (old >> np.uint32(3))
            high = _rotate(new, 17) ^ _rotate(new, 19) ^ (new >> np.uint32(10))
            word[i] = np.uint32(word[i - 16] + low + word[i - 7] + high)
        a, b, c, d, e, f, g, h = digest
        for i in range(64):
            mixed = _rotate(e, 6) ^ _rotate(e, 11) ^ _rotate(e, 25)
            first = np.uint32(h + mixed + ((e & f) ^ (~e & g)) + _ROUND[i] + word[i])
            second = np.uint32((_rotate(a, 2) ^ _rotate(a, 13) ^ _rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c)))
            h, g, f, e, d, c, b, a = g, f, e, np.uint32(d + first), c, b, a, np.uint32(first + second)
        for i, value in enumerate((a, b, c, d, e, f, g, h)):
            digest[i] = np.uint32(digest[i] + value)
    rest = np.uint64(0)
    for i in range(8):
        rest = ((rest << np.uint64(32)) | np.uint64(digest[i])) % np.uint64(modulus)
    return np.int64(rest)
