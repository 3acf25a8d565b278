"""Random maps from many parameters to few dimensions that keep inner products on average; a seed is all there is of their matrix P."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dsel.error import InputError
from dsel.functional.cores import num_cores
from dsel.functional.projection_kernels import FIRST, SECOND, STEP, TILE, add_rows, add_values, list_buckets

KINDS = ("sparse", "rademacher", "gaussian")
BLOCK = 1 << 21  # entries of P at a time, 8 MB; what P is hangs on it
SPREAD = 1 << 25  # values from which on threads pay: before that they wait for those of torch, which look for work a while longer
_LOW = 2**32 - 1


@dataclass(frozen=True)
class Projection:
    """P (parameter, dim). "sparse": `num_nonzeros` entries of a parameter are +-1/sqrt(num_nonzeros), the others 0 (the sparse
    Johnson-Lindenstrauss transform, arXiv 1012.1577); "rademacher": +-1/sqrt(dim); "gaussian": normal of variance 1/dim."""

    kind: str
    dim: int
    seed: int
    num_nonzeros: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"projection kind={self.kind!r}: must be one of {', '.join(KINDS)}")
        if not 1 <= self.dim <= BLOCK:
            raise InputError(f"projection dim={self.dim}: must be from 1 to {BLOCK}")
        if not 1 <= self.num_nonzeros <= self.dim:
            raise InputError(f"projection num_nonzeros={self.num_nonzeros}: must be from 1 to dim={self.dim}")

    @property
    def is_sparse(self) -> bool:
        """Whether most of P is 0."""
        return self.kind == "sparse"

    def add(self, out: torch.Tensor, values: torch.Tensor, offset: int) -> None:
        """Add values (example, n) times the n rows of P from `offset` on to `out` (example, dim), float32 or float64, in place."""
        values = values.detach().to(out.dtype)
        if not self.is_sparse:
            for start, stop, block in self._blocks(offset, values.shape[1]):
                out.addmm_(values[:, start:stop], block.to(out))
            return
        sums = out.new_zeros(len(out), 2 * self.dim)
        if not values.is_cpu:
            for start in range(0, values.shape[1], BLOCK):
                part = values[:, start : start + BLOCK]
                for buckets in self._buckets(offset + start, part.shape[1], part):
                    sums.index_add_(1, buckets, part)
        else:
            self._spread(partial(add_values, offset=offset), TILE, sums, values)
        self._fold(sums, out)

    def add_rows(self, out: torch.Tensor, rows: torch.Tensor, values: torch.Tensor, offset: int) -> None:
        """Likewise of a matrix whose first entry has the number `offset`, of which an example has only some rows: `rows` (example, token)
        says which, values (example, token, width) what. For sparse maps."""
        values = values.detach().to(out.dtype)
        sums = out.new_zeros(len(out), 2 * self.dim)
        if not values.is_cpu:
            within = torch.arange(values.shape[2], device=values.device)
            numbers = offset + (rows[..., None] * values.shape[2] + within).flatten(1)
            for buckets in self._hash(numbers):
                sums.scatter_add_(1, buckets, values.flatten(1))
        else:
            self._spread(partial(add_rows, offset=offset), values.shape[2], sums, values, rows)
        self._fold(sums, out)

    def lift(self, weights: torch.Tensor, offset: int, n: int) -> torch.Tensor:
        """The transpose: weights (subset, dim) times P, for the n parameters from `offset` on (subset, n)."""
        found = weights.new_zeros(len(weights), n)
        if not self.is_sparse:
            for start, stop, block in self._blocks(offset, n):
                found[:, start:stop] = weights @ block.to(weights).T
            return found
        signed = torch.cat([weights, -weights], 1) / self.num_nonzeros**0.5
        for start in range(0, n, BLOCK):
            size = min(BLOCK, n - start)
            for buckets in self._buckets(offset + start, size, weights):
                found[:, start : start + size] += signed[:, buckets]
        return found

    @property
    def _key(self) -> np.uint64:
        mixed = (self.seed * 0xD6E8FEB86659FD93 + 0x2545F4914F6CDD1D) % 2**64
        return np.uint64(mixed ^ (mixed >> 32))

    def _blocks(self, offset: int, n: int) -> Iterator[tuple[int, int, torch.Tensor]]:
        """Of `n` rows of P from `offset` on: first, last + 1, and what they are."""
        height, start = BLOCK // self.dim, 0
        while start < n:
            number, first = divmod(offset + start, height)
            stop = min(n, start + height - first)
            yield start, stop, _block(self.kind, self.dim, self.seed, number)[first : first + stop - start]
            start = stop

    def _spread(self, kernel: Any, tile: int, sums: torch.Tensor, *arrays: torch.Tensor) -> None:
        """Run a kernel on the examples, in several threads where that pays. Sums of examples have nothing to do with each other."""
        threads = min(torch.get_num_threads(), num_cores(), len(sums)) if arrays[0].numel() * self.num_nonzeros >= SPREAD else 1
        given = [array.contiguous().numpy() for array in reversed(arrays)]

        def work(which: slice) -> None:
            buckets = np.empty((self.num_nonzeros, tile), np.uint16 if self.dim <= 1 << 15 else np.uint32)
            kernel(*(array[which] for array in given), key=self._key, buckets=buckets, sums=sums.numpy()[which])

        if threads == 1:
            work(slice(None))
            return
        ends = [number * len(sums) // threads for number in range(threads + 1)]
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, [slice(*pair) for pair in pairwise(ends)]))

    def _fold(self, sums: torch.Tensor, out: torch.Tensor) -> None:
        """What has sign plus less what has sign minus."""
        out.add_(sums[:, : self.dim] - sums[:, self.dim :], alpha=self.num_nonzeros**-0.5)

    def _buckets(self, first: int, size: int, beside: torch.Tensor) -> Iterable[torch.Tensor]:
        """For each nonzero, the buckets (parameter,) of the parameters from `first` on, on the device of `beside`."""
        if not beside.is_cpu:
            return self._hash(torch.arange(first, first + size, device=beside.device))
        buckets = np.empty((self.num_nonzeros, size), np.int64)
        list_buckets(first, self._key, self.dim, buckets)
        return torch.from_numpy(buckets)

    def _hash(self, numbers: torch.Tensor) -> list[torch.Tensor]:
        """What `list_buckets` gives, by torch, of parameters of any shape: for each nonzero the buckets, of that shape."""
        found = []
        for nonzero in range(self.num_nonzeros):
            low = nonzero * self.dim // self.num_nonzeros
            width = (nonzero + 1) * self.dim // self.num_nonzeros - low
            value = (numbers * self.num_nonzeros + nonzero) * _signed(STEP) + _signed(int(self._key))
            value = (value ^ _shift(value, 30)) * _signed(FIRST)
            value = (value ^ _shift(value, 27)) * _signed(SECOND)
            value = value ^ _shift(value, 31)
            bucket = (_shift(value, 32) * (2 * width)) >> 32
            found.append(low + bucket + (bucket >= width) * (self.dim - width))
        return found


@lru_cache(maxsize=1)  # neighbours in the parameters share one
def _block(kind: str, dim: int, seed: int, number: int) -> torch.Tensor:
    """The block (row, dim) of that number, of BLOCK // dim rows of P."""
    rng = np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, number], np.uint64)))
    rows = BLOCK // dim
    values: npt.NDArray[np.float32]
    if kind == "gaussian":
        values = rng.standard_normal((rows, dim), np.float32)
    else:
        bits = np.unpackbits(np.frombuffer(rng.bytes(-(-rows * dim // 8)), np.uint8), count=rows * dim).reshape(rows, dim)
        values = bits.astype(np.float32)
        values *= 2
        values -= 1
    values *= np.float32(dim**-0.5)
    return torch.from_numpy(values)


def _shift(value: torch.Tensor, bits: int) -> torch.Tensor:
    """To the right, as if there were no sign."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number
