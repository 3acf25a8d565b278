"""Nearest neighbours beside faiss alone: `python benchmarks/knn.py [--quick]`. Needs the extra `dsel[faiss]`. The last line is JSON.

The same vectors go through dsel, from Arrow shards by the fitted score and the executor to a score each, and through faiss, in one
call; fitting (dsel) and building the index (both) count. Both have all cores, and take turns: a machine that slows down slows both.

The floor of an exact search is its products: 2 x documents x target x dim operations, 2 x 50,000 x 10,000 x 384 = 3.8e11 here,
or 7.7 MFLOP a document, so that a core of 60 GFLOP/s does 7,800 documents a second. Cells (`ivf`) compute a part of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from overhead import in_turns
from table import Row, print_json, show
from threadpoolctl import threadpool_limits

from dsel.context import Context
from dsel.executor.local import Local
from dsel.functional.cores import num_cores
from dsel.functional.faiss_index import FaissIndex
from dsel.functional.spectrum import unit
from dsel.phase.score import SHARD_SIZE, map_pool
from dsel.pool import Pool
from dsel.scorer.knn import Knn

VECTOR = "vector"
CORES = num_cores()
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    documents: int = 50_000
    target: int = 10_000
    dim: int = 384
    k: int = 10
    rounds: int = 2


QUICK = Size(documents=2_000, target=500, dim=32, rounds=1)


def column(table: pa.Table) -> Vectors:
    """The vectors (row, dim) in a table, without a copy."""
    array = table[VECTOR].combine_chunks() if table[VECTOR].num_chunks > 1 else table[VECTOR].chunk(0)
    vectors: Vectors = array.flatten().to_numpy().reshape(len(array), -1)
    return vectors


@dataclass(frozen=True)
class VectorKnn(Knn):
    """The scorer on vectors that are there already: what is left is the search."""

    @property
    def reads(self) -> Sequence[str]:
        """The vectors."""
        return (VECTOR,)

    def _vectors(self, context: Context) -> Any:
        return column


def make_pool(count: int, size: Size, seed: int) -> Pool:
    """Unit vectors around a hundred centres, as documents of many domains lie; always the same."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((100, size.dim), dtype=np.float32)
    vectors = unit(centres[rng.integers(100, size=count)] + rng.standard_normal((count, size.dim), dtype=np.float32))
    array = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), size.dim)
    return Pool("source", pa.table({VECTOR: array}), str(seed))


def ours(source: Pool, target: Pool, scorer: VectorKnn) -> Vectors:
    """Fit, and score shard by shard, a core each."""
    with threadpool_limits(1):
        fitted = scorer.fit(source, target, cast(Context, SimpleNamespace(rng=np.random.default_rng(0))))
        return map_pool(Local(CORES), fitted, source, list(scorer.reads), "score", SHARD_SIZE)[:, 0]


def flat_alone(source: Pool, target: Pool, k: int) -> Vectors:
    """faiss's exhaustive index, as its tutorial uses it."""
    import faiss

    vectors = column(target.table)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    means: Vectors = index.search(column(source.table), k)[0].mean(1)
    return means


def cells_alone(source: Pool, target: Pool, k: int, num_cells: int, num_searched: int) -> Vectors:
    """faiss's cells, as many as ours."""
    import faiss

    vectors = column(target.table)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(vectors.shape[1]), vectors.shape[1], num_cells, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    index.nprobe = num_searched
    means: Vectors = index.search(column(source.table), k)[0].mean(1)
    return means


def check(source: Pool, target: Pool, size: Size) -> None:
    """Errors: the two do not compute the same."""
    some = source.take(np.arange(min(1000, size.documents)))
    scorer = VectorKnn(k=size.k, max_variance=None)
    np.testing.assert_allclose(ours(some, target, scorer), flat_alone(some, target, size.k), atol=1e-5)


def measure(size: Size) -> Iterator[Row]:
    """Documents a second, over those of faiss with the same kind of index."""
    source, target = make_pool(size.documents, size, 1), make_pool(size.target, size, 2)
    check(source, target, size)
    cells = FaissIndex.of(column(target.table), "ivf").opened
    works = {
        "exact": partial(ours, source, target, VectorKnn(k=size.k)),
        "flat": partial(ours, source, target, VectorKnn(k=size.k, index="flat")),
        "faiss flat": partial(flat_alone, source, target, size.k),
        "ivf": partial(ours, source, target, VectorKnn(k=size.k, index="ivf")),
        "faiss ivf": partial(cells_alone, source, target, size.k, cells.nlist, cells.nprobe),
    }
    rates = {name: size.documents / seconds for name, seconds in in_turns(works, size.rounds).items()}
    named = [("knn_vs_faiss", "exact", "faiss flat"), ("knn_flat_vs_faiss", "flat", "faiss flat"), ("knn_ivf_vs_faiss", "ivf", "faiss ivf")]
    for key, name, beside in named:
        told = f"{rates[beside]:,.0f} docs/s, {beside} alone"
        target = "" if name == "ivf" else ">= 0.8"  # whose cells one core makes, so that they are the same on any machine
        yield Row(key, f"kNN, index={name}", f"{rates[name]:,.0f} docs/s", told, rates[name] / rates[beside], target)


def main() -> None:
    """Measure, print the table, and last a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; shows that it works, not how fast")
    size = QUICK if parser.parse_args().quick else Size()
    rows = list(measure(size))
    show(rows, f"{size.documents:,} x {size.dim} vectors, {size.target:,} of the target, k={size.k}, {CORES} cores")
    print_json(rows)


if __name__ == "__main__":
    main()
