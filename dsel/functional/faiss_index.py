"""The same by an index of faiss, which may be approximate: exhaustive (`flat`), cells (`ivf`), or a graph (`hnsw`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from dsel.error import InputError

Vectors = npt.NDArray[np.float32]
POINTS_PER_CELL = 39  # under which faiss warns that its cells are ill-founded
MATRIX_PRODUCT = 8192  # numbers in the queries from which they are multiplied as a matrix: a shard's are few for the default of 128,000
LINKS, BEAM = 32, 64  # of the graph: links of a vector, and candidates under way in a search


@dataclass(frozen=True)
class FaissIndex:
    """An index as the bytes (byte,) uint8 that faiss writes, opened at the first search: it can be sent anywhere."""

    written: npt.NDArray[np.uint8]

    @staticmethod
    def of(neighbours: Vectors, kind: str) -> FaissIndex:
        """An index of `neighbours` (neighbour, dim) for inner products. Errors: faiss is not installed."""
        faiss = _faiss()
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)  # a graph depends on the order in which threads add to it
        try:
            index = _make(faiss, neighbours, kind)
            index.add(np.ascontiguousarray(neighbours))
        finally:
            faiss.omp_set_num_threads(threads)
        return FaissIndex(faiss.serialize_index(index))

    def mean_similarity(self, queries: Vectors, k: int) -> Vectors:
        """Mean inner product (query,) of each query (query, dim) with the up to `k` neighbours found; -1 where none is."""
        _faiss().omp_set_num_threads(1)  # of this thread: there is one for each core already
        products, found = self.opened.search(np.ascontiguousarray(queries), min(k, self.opened.ntotal))
        real = found >= 0
        count = real.sum(1)
        means = np.where(real, products, 0).sum(1, dtype=np.float64) / np.maximum(count, 1)
        return np.where(count > 0, means, -1).astype(np.float32)

    @cached_property
    def opened(self) -> Any:
        """The index as faiss knows it; searches may share it."""
        return _faiss().deserialize_index(self.written)

    def __getstate__(self) -> dict[str, Any]:
        return {"written": self.written}  # an open index cannot be pickled


def _make(faiss: Any, neighbours: Vectors, kind: str) -> Any:
    count, dim = neighbours.shape
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efSearch = BEAM
        return index
    if kind == "ivf":
        cells = max(1, min(round(4 * math.sqrt(count)), count // POINTS_PER_CELL))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, cells, faiss.METRIC_INNER_PRODUCT)
        index.train(np.ascontiguousarray(neighbours))
        index.nprobe = max(1, cells // 8)
        return index
    return faiss.IndexFlatIP(dim)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise InputError("scorer.index: faiss is not installed; pip install 'dsel[faiss]', or set scorer.index=exact") from error
    faiss.cvar.distance_compute_blas_threshold = MATRIX_PRODUCT
    return faiss
