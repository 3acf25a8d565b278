"""BM25 against a computation by hand."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laboratory import Lab
from sklearn.metrics import roc_auc_score

from dsel.error import InputError
from dsel.functional.lexical import DOCUMENTS
from dsel.functional.ngrams import Ngrams
from dsel.pool import PLANTED, Pool
from dsel.scorer.bm25 import Bm25

NO_CONTEXT: Any = None  # it looks at none
TEXTS = st.lists(st.text("ab c,", max_size=30), min_size=1, max_size=6)
SHARES = st.sampled_from([0.0, 0.75, 1.0])


def pool(texts: list[str]) -> Pool:
    return Pool("x", pa.table({"text": pa.array(texts, pa.string())}), "x")


def by_hand(scorer: Bm25, source: list[str], target: list[str], documents: list[str]) -> list[float]:
    """The formula of the docstring, an n-gram at a time."""

    def count(text: str) -> Counter[int]:
        return Counter(Ngrams(scorer.max_ngram, scorer.num_features).buckets(pa.array([text]))[0].tolist())

    mean_length = max(sum(count(text).total() for text in source) / len(source), 1)
    query: Counter[int] = sum((count(text) for text in target), Counter())
    scores = []
    for document in documents:
        found, score = count(document), 0.0
        for gram, tf in found.items():
            holding = sum(gram in count(text) for text in source)
            idf = max(0.0, math.log((len(source) - holding + 0.5) / (holding + 0.5)))
            part = tf * (scorer.k1 + 1) / (tf + scorer.k1 * (1 - scorer.b + scorer.b * found.total() / mean_length))
            part /= 1 - scorer.slope + scorer.slope * found.total() / mean_length
            qtf = query[gram]
            score += idf * part * (qtf * (scorer.k3 + 1) / (qtf + scorer.k3) if qtf else 0.0)
        scores.append(score)
    return scores


@settings(deadline=None, max_examples=50)
@given(TEXTS, TEXTS, st.sampled_from([0.0, 1.2, 5.0]), SHARES, st.sampled_from([0.0, 0.5, 8.0]), SHARES)
def test_equals_the_formula(source: list[str], target: list[str], k1: float, b: float, k3: float, slope: float) -> None:
    scorer = Bm25(num_features=97, k1=k1, b=b, k3=k3, slope=slope)
    scores = scorer.fit(pool(source), pool(target), NO_CONTEXT)(pool([*source, *target]).table)
    np.testing.assert_allclose(scores[:, 0], by_hand(scorer, source, target, [*source, *target]), rtol=1e-5, atol=1e-6)


def test_more_documents_than_are_listed_at_a_time() -> None:
    """Frequencies count on from part to part, and scores keep their order."""
    source = [f"word{number % 7} common" for number in range(DOCUMENTS + 20)]
    scores = Bm25(max_ngram=1).fit(pool(source), pool(["word3"]), NO_CONTEXT)(pool(source).table)[:, 0]
    holding = sum(text.startswith("word3") for text in source)
    idf = math.log((len(source) - holding + 0.5) / (holding + 0.5))  # with tf = qtf = 1 and |d| the mean, the other factors are 1
    np.testing.assert_allclose(scores, [idf * (text[4] == "3") for text in source], rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "wins"), [({"b": 0.0, "slope": 0.0}, "long"), ({"b": 1.0, "slope": 0.0}, "short"), ({"b": 0.0}, "short")]
)
def test_b_and_slope_are_what_length_counts(options: dict[str, float], wins: str) -> None:
    noise = " ".join(f"other{number}" for number in range(60))
    texts = {"short": "graph tree", "long": f"graph tree edge {noise}"}
    source = [*texts.values(), *(f"car{number} road{number}" for number in range(40))]
    scores = Bm25(**options).fit(pool(source), pool(["graph tree edge"]), NO_CONTEXT)(pool(list(texts.values())).table)  # type: ignore[arg-type]
    assert list(texts)[int(scores[:, 0].argmax())] == wins


def test_finds_the_domain(lab: Lab) -> None:
    fitted = Bm25().fit(lab.source, lab.target, lab.context())
    assert roc_auc_score(lab.source.table[PLANTED].to_numpy(), fitted(lab.source.table)[:, 0]) > 0.9


@pytest.mark.parametrize(("name", "value"), [("k1", -1.0), ("k3", -1.0), ("b", 1.5), ("slope", -0.5)])
def test_bad_options(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"scorer\.{name}={value}: must be"):
        Bm25(**{name: value})  # type: ignore[arg-type]
