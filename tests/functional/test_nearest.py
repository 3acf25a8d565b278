"""Nearest neighbours against brute force, scikit-learn and faiss."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from dsel.error import InputError
from dsel.functional import nearest
from dsel.functional.faiss_index import FaissIndex
from dsel.functional.nearest import Exact

Vectors = np.ndarray[tuple[int, int], np.dtype[np.float32]]


def make(count: int, dim: int = 24, seed: int = 0) -> Vectors:
    """Unit vectors around a few centres, as documents of some domains lie."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(5, dim))
    vectors = centres[rng.integers(5, size=count)] + rng.normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def brute_force(queries: Vectors, neighbours: Vectors, k: int) -> list[float]:
    return [float(np.mean(sorted((float(np.dot(n, q)) for n in neighbours), reverse=True)[:k])) for q in queries.astype(np.float64)]


@pytest.mark.parametrize("k", [1, 2, 10, 99])
@pytest.mark.parametrize("count", [1, 7, 40])
def test_equals_brute_force(monkeypatch: pytest.MonkeyPatch, k: int, count: int) -> None:
    monkeypatch.setattr(nearest, "QUERIES", 4)
    monkeypatch.setattr(nearest, "NEIGHBOURS", 9)
    queries, neighbours = make(11, seed=1), make(count)
    np.testing.assert_allclose(Exact(neighbours).mean_similarity(queries, k), brute_force(queries, neighbours, k), atol=1e-6)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=50), min_size=1, max_size=4), st.integers(1, 60))
def test_the_best_are_kept_whatever_the_order_and_the_ties(blocks: list[list[int]], k: int) -> None:
    """One query and one dimension: products are the numbers themselves, block after block."""
    best = np.full((1, k), -np.inf, np.float32)
    for block in blocks:
        nearest._keep(np.array([block], np.float32), best)
    everything = sorted((value for block in blocks for value in block), reverse=True)[:k]
    assert best[0].tolist() == [-np.inf] * (k - len(everything)) + everything[::-1]


@pytest.mark.parametrize("k", [1, 10])
def test_equals_scikit_learn(k: int) -> None:
    queries, neighbours = make(700, seed=1), make(1500)
    distances, _ = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(neighbours).kneighbors(queries)
    np.testing.assert_allclose(Exact(neighbours).mean_similarity(queries, k), 1 - distances.mean(1), atol=1e-5)


def test_one_query_at_a_time_is_the_same() -> None:
    queries, neighbours = make(30, seed=1), make(1100)
    index = Exact(neighbours)
    alone = np.concatenate([index.mean_similarity(queries[i : i + 1], 5) for i in range(len(queries))])
    np.testing.assert_allclose(alone, index.mean_similarity(queries, 5), atol=1e-6)


@pytest.mark.parametrize("k", [1, 10, 3000])
def test_exhaustive_faiss_is_exact(k: int) -> None:
    pytest.importorskip("faiss")
    queries, neighbours = make(300, seed=1), make(1500)
    exact = Exact(neighbours).mean_similarity(queries, k)
    np.testing.assert_allclose(FaissIndex.of(neighbours, "flat").mean_similarity(queries, k), exact, atol=1e-5)


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_approximate_faiss_finds_nearly_the_best_and_no_better(kind: str) -> None:
    pytest.importorskip("faiss")
    queries, neighbours = make(300, seed=1), make(1500)
    gap = Exact(neighbours).mean_similarity(queries, 10) - FaissIndex.of(neighbours, kind).mean_similarity(queries, 10)
    assert gap.min() > -1e-5
    assert gap.mean() < 0.03
    assert gap.max() > 0  # it is approximate: otherwise this tests the exhaustive one


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_a_faiss_index_is_the_same_every_time_and_survives_pickling_after_a_search(kind: str) -> None:
    pytest.importorskip("faiss")
    queries, neighbours = make(50, seed=1), make(800)
    index = FaissIndex.of(neighbours, kind)
    found = index.mean_similarity(queries, 5)
    for other in (pickle.loads(pickle.dumps(index)), FaissIndex.of(neighbours, kind)):
        np.testing.assert_array_equal(other.mean_similarity(queries, 5), found)
    alone = np.concatenate([index.mean_similarity(queries[i : i + 1], 5) for i in range(len(queries))])
    np.testing.assert_allclose(alone, found, atol=1e-5)


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_a_faiss_index_of_a_few(kind: str) -> None:
    pytest.importorskip("faiss")
    queries, neighbours = make(5, seed=1), make(3)
    np.testing.assert_allclose(
        FaissIndex.of(neighbours, kind).mean_similarity(queries, 10), brute_force(queries, neighbours, 10), atol=1e-6
    )


def test_without_faiss_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r"pip install 'dsel\[faiss\]', or set scorer\.index=exact"):
        FaissIndex.of(make(3), "flat")
