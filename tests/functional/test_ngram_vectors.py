"""Vectors of n-grams against a sum over words, and against the bags of words that they stand for."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsel.error import InputError
from dsel.functional.ngram_vectors import NgramVectors
from dsel.functional.ngrams import Ngrams

WORDS = [f"word{i}" for i in range(300)]


def table(texts: list[str]) -> pa.Table:
    return pa.table({"text": pa.array(texts, pa.string())})


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.sampled_from(WORDS[:40]), max_size=60), max_size=5), st.integers(2, 64))
def test_a_vector_is_the_sum_over_words_of_their_own_times_the_log_of_their_count(documents: list[list[str]], dim: int) -> None:
    vectors = NgramVectors(Ngrams(1, 2**18), dim)
    own = dict(zip(WORDS[:40], vectors(table(WORDS[:40])), strict=True))  # of a text of that word alone
    assert all(sorted(np.abs(vector))[-2:] == [0, 1] for vector in own.values())
    found = vectors(table([" ".join(words) for words in documents]))
    for words, vector in zip(documents, found, strict=True):
        expected = sum((math.log1p(count) * own[word].astype(np.float64) for word, count in Counter(words).items()), np.zeros(dim))
        norm = np.linalg.norm(expected)
        np.testing.assert_allclose(vector, expected / norm if norm > 1e-6 else vector, atol=1e-5)


def test_products_are_those_of_the_bags_of_words() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.exponential(0.8, size=(60, len(WORDS))))
    texts = [" ".join(word for word, count in zip(WORDS, row, strict=True) for _ in range(count)) for row in counts]
    bags = np.log1p(counts)
    bags /= np.linalg.norm(bags, axis=1, keepdims=True)
    for dim in (256, 4096):
        vectors = NgramVectors(Ngrams(1, 2**24), dim)(table(texts))
        error = (vectors @ vectors.T - bags @ bags.T)[~np.eye(60, dtype=bool)]
        assert error.std() < 1.5 / math.sqrt(dim)
        assert abs(error.mean()) < 1 / math.sqrt(dim)


def test_counts_beyond_the_table_and_bigrams() -> None:
    vectors = NgramVectors(Ngrams(2, 2**18), 512)
    one, two, both = vectors(table(["a", "b", "a b"]))
    pair = both * math.sqrt(3) - one - two  # three n-grams, each once
    many = vectors(table([" ".join(["a"] * 5000)]))[0]
    twice = vectors(table(["a a"]))[0]
    a_a = twice * math.hypot(math.log(3), math.log(2)) - one * math.log(3)
    expected = one * math.log(5001) + a_a / np.linalg.norm(a_a) * math.log(5000)
    np.testing.assert_allclose(many, expected / np.linalg.norm(expected), atol=1e-5)
    assert np.abs(pair).max() == pytest.approx(1, abs=1e-5)


def test_texts_without_words_are_zeros_and_leave_no_trace() -> None:
    vectors = NgramVectors(Ngrams(1, 1000), 8)
    found = vectors(table(["one two two", "", "  \n", "one two two"]))
    assert not found[1:3].any()
    np.testing.assert_array_equal(found[0], found[3])
    assert np.linalg.norm(found[0]) == pytest.approx(1)
    assert vectors(table([])).shape == (0, 8)


def test_bad_dim() -> None:
    with pytest.raises(InputError, match="dim=1"):
        NgramVectors(Ngrams(), 1)
