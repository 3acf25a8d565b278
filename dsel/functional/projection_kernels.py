"""The loops under `projection`: a hash says into which of the buckets each parameter goes. Compiled by numba; they hold no lock."""

from __future__ import annotations

import numba as nb
import numpy as np

TILE = 1 << 14  # parameters at a time, whose buckets stay in the nearest cache

STEP, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # of splitmix64
_STEP, _FIRST, _SECOND = np.uint64(STEP), np.uint64(FIRST), np.uint64(SECOND)
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)


@nb.njit(nogil=True, cache=True)
def list_buckets(first, key, dim, buckets):  # type: ignore[no-untyped-def]
    """Fill `buckets` (nonzero, parameter) for the parameters from `first` on: below `dim` where the sign is plus, else `dim` above it.

    The nonzeros of a parameter share out the dimensions, so that no two are in one.
    """
    num_nonzeros, size = buckets.shape
    for nonzero in range(num_nonzeros):
        low = nonzero * dim // num_nonzeros
        width = (nonzero + 1) * dim // num_nonzeros - low
        twice = np.uint64(2 * width)
        state = np.uint64(key) + (np.uint64(first) * np.uint64(num_nonzeros) + np.uint64(nonzero)) * _STEP
        step = np.uint64(num_nonzeros) * _STEP
        for at in range(size):
            value = state + np.uint64(at) * step
            value = (value ^ (value >> _S30)) * _FIRST
            value = (value ^ (value >> _S27)) * _SECOND
            value ^= value >> _S31
            bucket = np.int64(((value >> _S32) * twice) >> _S32)
            buckets[nonzero, at] = low + bucket + (dim - width if bucket >= width else 0)


@nb.njit(nogil=True, cache=True)
def add_values(values, offset, key, buckets, sums):  # type: ignore[no-untyped-def]
    """Add values (example, parameter), of the parameters from `offset` on, to sums (example, 2 * dim). `buckets` (nonzero, tile) is room
    to work in."""
    num_nonzeros, tile = buckets.shape
    for first in range(0, values.shape[1], tile):
        size = min(tile, values.shape[1] - first)
        here = buckets[:, :size]
        list_buckets(offset + first, key, sums.shape[1] // 2, here)
        for example in range(len(values)):
            row, total = values[example, first : first + size], sums[example]
            for nonzero in range(num_nonzeros):
                into = here[nonzero]
                for at in range(size):
                    total[into[at]] += row[at]


@nb.njit(nogil=True, cache=True)
def add_rows(rows, values, offset, key, buckets, sums):  # type: ignore[no-untyped-def]
    """Add values (example, token, width) of the rows (example, token) of a matrix that begins at `offset`. `buckets` (nonzero, width)."""
    width = values.shape[2]
    for example in range(len(values)):
        total = sums[example]
        for token in range(values.shape[1]):
            list_buckets(offset + rows[example, token] * width, key, sums.shape[1] // 2, buckets)
            row = values[example, token]
            for nonzero in range(len(buckets)):
                into = buckets[nonzero]
                for at in range(width):
                    total[into[at]] += row[at]
