"""How similar vectors are to their nearest neighbours among others: exactly, block by block."""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
import numpy.typing as npt

QUERIES, NEIGHBOURS = 2048, 1024  # of a block of products: large enough for the matrix product, 8 MB at most
STEP = 32  # products that are compared at once

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Exact:
    """`neighbours` (neighbour, dim), compared with every query by one matrix product a block."""

    neighbours: Vectors

    def mean_similarity(self, queries: Vectors, k: int) -> Vectors:
        """Mean inner product (query,) of each query (query, dim) with its `k` best neighbours, or with all where there are fewer.

        2 x query x neighbour x dim operations; memory for one block of products, whatever the sizes.
        """
        best = np.full((len(queries), min(k, len(self.neighbours))), -np.inf, np.float32)
        for first in range(0, len(queries), QUERIES):
            rows = slice(first, first + QUERIES)
            for start in range(0, len(self.neighbours), NEIGHBOURS):
                _keep(queries[rows] @ self.neighbours[start : start + NEIGHBOURS].T, best[rows])
        means: Vectors = best.mean(1, dtype=np.float64).astype(np.float32)
        return means


@nb.njit(nogil=True, cache=True)
def _keep(products, best):  # type: ignore[no-untyped-def]
    """Put what is larger than the least of `best` (query, k), which ascends, in its place."""
    num_products, k = products.shape[1], best.shape[1]
    for query in range(len(products)):
        row, kept = products[query], best[query]
        least = kept[0]
        for first in range(0, num_products, STEP):
            stop = min(first + STEP, num_products)
            larger = 0
            for i in range(first, stop):  # without a branch: compiled to vector instructions
                larger += row[i] > least
            if larger == 0:
                continue
            for i in range(first, stop):
                value = row[i]
                if value > least:
                    at = 1
                    while at < k and kept[at] < value:
                        kept[at - 1] = kept[at]
                        at += 1
                    kept[at - 1] = value
                    least = kept[0]
