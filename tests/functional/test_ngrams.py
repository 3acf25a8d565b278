from __future__ import annotations

import hashlib
import re
import unicodedata
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsel.error import InputError
from dsel.functional.characters import UNSPACED
from dsel.functional.ngram_kernels import BUFFER
from dsel.functional.ngrams import Ngrams
from dsel.functional.sha256 import sha256_mod

TEXTS = st.lists(
    st.text(max_size=60) | st.text("aA .,_-\u00e9\u0130\u03a3\u03c3\u4e2d\u3042\u0e01\u0301\u0939\u093f\U0001f600", max_size=40), max_size=6
)


def tokens(text: str) -> list[str]:
    """The documented rule, a character at a time."""
    found: list[list[str]] = []
    before = None
    for character in text:
        kind = "word" if character == "_" or character.isalnum() or unicodedata.category(character)[0] == "M" else "punctuation"
        kind = "space" if character.isspace() else kind
        if UNSPACED.match(character):
            kind = "alone"
        if kind == before and kind in ("word", "punctuation"):
            found[-1].append(character)
        elif kind != "space":
            found.append([character])
        before = kind
    return ["".join(c.lower()[0] for c in token) for token in found]


def grams(words: list[str], order: int) -> list[str]:
    return [" ".join(words[i : i + n]) for n in range(1, order + 1) for i in range(len(words) - n + 1)]


def test_a_letter_and_a_mark_do_not_meet() -> None:
    values, _ = Ngrams(1, 2**31 - 1).buckets(pa.array(["b", "`"]))
    assert values[0] != values[1]


@given(TEXTS, st.integers(1, 4))
def test_equal_ngrams_share_a_bucket_and_others_do_not(texts: list[str], order: int) -> None:
    ngrams = Ngrams(order, 2**31 - 1)
    values, ends = ngrams.buckets(pa.array(texts, pa.string()))
    names: dict[int, str] = {}
    for text, start, stop in zip(texts, ends[:-1], ends[1:], strict=True):
        words = tokens(text)
        # the code goes token by token, and at each from the shortest n-gram that ends there to the longest
        here = [" ".join(words[i - n : i + 1]) for i in range(len(words)) for n in range(min(order, i + 1))]
        assert stop - start == len(here)
        for bucket, name in zip(values[start:stop].tolist(), here, strict=True):
            assert names.setdefault(bucket, name) == name
    assert len(names) == len({gram for text in texts for gram in grams(tokens(text), order)})


@given(TEXTS, st.integers(1, 3), st.sampled_from([7, 1000, 10_000]))
def test_exact_features_of_the_package(texts: list[str], order: int, num_buckets: int) -> None:
    counts = np.zeros(num_buckets, dtype=np.int64)
    for text in texts:  # as in data_selection.hashed_ngram_dsir.get_ngram_counts
        for gram in grams(re.findall(r"\w+|[^\w\s]+", text.lower()), order):
            counts[int(hashlib.sha256(gram.encode()).hexdigest(), 16) % num_buckets] += 1
    assert np.array_equal(Ngrams(order, num_buckets, python=True).count(pa.array(texts, pa.string())), counts)


@pytest.mark.parametrize("python", [False, True])
@given(texts=TEXTS)
def test_count_list_and_score_agree(python: bool, texts: list[str]) -> None:
    ngrams = Ngrams(2, 50, python)
    array = pa.array(texts, pa.string())
    values, ends = ngrams.buckets(array)
    assert np.array_equal(ngrams.count(array), np.bincount(values, minlength=50))
    weights = np.random.default_rng(0).normal(size=50)
    rows = [np.bincount(values[a:b], minlength=50) for a, b in pairwise(ends)]
    np.testing.assert_allclose(ngrams.score(array, weights), [row @ weights for row in rows], atol=1e-9)
    expected = [(row > 0) @ weights / max(np.linalg.norm(row > 0), 1) for row in rows]
    np.testing.assert_allclose(ngrams.score(array, weights, distinct=True), expected, atol=1e-9)


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_sha256(data: bytes) -> None:
    expected = int(hashlib.sha256(data).hexdigest(), 16) % 999_983
    assert sha256_mod(np.frombuffer(data, np.uint8), len(data), 999_983) == expected


def test_documents_longer_than_the_buffer() -> None:
    words = [f"w{i % 977}" for i in range(3 * BUFFER)]
    ngrams = Ngrams(2, 1000)
    texts = pa.array([" ".join(words), "w1", "w1"])
    values, ends = ngrams.buckets(texts)
    assert np.diff(ends).tolist() == [2 * len(words) - 1, 1, 1]
    weights = np.arange(1000.0)
    expected = np.bincount(values[: ends[1]], minlength=1000) > 0
    found = ngrams.score(texts, weights, distinct=True)
    np.testing.assert_allclose(found, [expected @ weights / np.linalg.norm(expected), weights[values[-1]], weights[values[-1]]])


def test_slices_chunks_nulls_and_types_make_no_difference() -> None:
    texts = ["One two, three.", None, "", "\u4e2d\u6587 text", "Stra\u00dfe\u0301 one two"]
    ngrams, weights = Ngrams(2, 100), np.arange(100.0)
    whole = ngrams.score(pa.array(texts), weights)
    for kind in (pa.large_string(), pa.string_view()):
        assert np.array_equal(ngrams.score(pa.array(texts, kind), weights), whole)
    chunks = pa.chunked_array([pa.array(["x", *texts]).slice(1, 2), pa.array(texts[2:]), pa.array([], pa.string())])
    assert np.array_equal(ngrams.score(chunks, weights), whole)
    assert whole[1] == whole[2] == 0


def test_letters_of_unspaced_scripts_are_words_and_marks_belong_to_theirs() -> None:
    def count(text: str) -> int:
        return int(Ngrams(1, 100).count(pa.array([text])).sum())

    assert [count(t) for t in ("\u4e2d\u6587\u5b57", "\u0939\u093f\u0928\u094d\u0926\u0940", "caf\u00e9 au lait", "a-b", "...", "")] == [
        3,
        1,
        3,
        3,
        1,
        0,
    ]


@pytest.mark.parametrize(("options", "message"), [({"order": 0}, "max_ngram=0"), ({"num_buckets": 1}, "num_buckets=1")])
def test_bad_options(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Ngrams(**options)
