"""A column for every target document, of the scorers by text: as if each were the only one."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from laboratory import Lab
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from dsel.executor.local import Local
from dsel.phase.score import map_pool
from dsel.scorer.bm25 import Bm25
from dsel.scorer.knn import Knn

SMALL: dict[str, Any] = {"batch_size": 8, "max_length": 32, "sample": 100, "dim": 512}


@pytest.mark.parametrize("options", [{}, {"max_ngram": 1, "k3": 0.5, "b": 0.2, "slope": 0.0}, {"k3": 0.0}])
def test_bm25_columns_are_those_of_one_document_at_a_time(lab: Lab, options: dict[str, Any]) -> None:
    found = Bm25(**options, each=True).fit(lab.source, lab.target, lab.context())(lab.source.table)
    assert found.shape == (len(lab.source), len(lab.target))
    for row in range(len(lab.target)):
        alone = Bm25(**options).fit(lab.source, lab.target.take(np.array([row])), lab.context())(lab.source.table)
        np.testing.assert_allclose(found[:, row], alone[:, 0], rtol=1e-5, atol=1e-6)
    assert np.abs(found - found[:, :1]).max() > 0.1


@pytest.mark.parametrize("options", [{}, {"b": 0.0, "slope": 1.0}])
def test_bm25_of_one_long_query_lies_between_its_parts(lab: Lab, options: dict[str, Any]) -> None:
    """A word in several target documents counts more than once and less than as often."""
    each = Bm25(**options, each=True).fit(lab.source, lab.target, lab.context())(lab.source.table)
    together = Bm25(**options).fit(lab.source, lab.target, lab.context())(lab.source.table)[:, 0]
    assert (together >= each.max(1) - 1e-4).all()
    assert (together <= each.sum(1) + 1e-4).all()


def test_knn_columns_are_cosines_by_scikit_learn(lab: Lab) -> None:
    """Of log counts, hashed into so many numbers that no word of these few shares one with another."""
    texts = [pool.table["text"].to_pylist() for pool in (lab.source, lab.target)]
    counts = CountVectorizer(token_pattern=r"\w+|[^\w\s]+").fit(texts[0] + texts[1])
    source, target = (np.log1p(counts.transform(part).toarray()) for part in texts)
    scores = Knn(each=True, dim=2**16, max_variance=None).fit(lab.source, lab.target, lab.context())(lab.source.table)
    np.testing.assert_allclose(scores, cosine_similarity(source, target), atol=1e-5)


@pytest.mark.parametrize("encoder", ["ngrams", "pretrained", "folder"])
@pytest.mark.parametrize("max_variance", [None, 4.0])
def test_the_nearest_of_knn_columns_is_what_one_neighbour_is(lab: Lab, checkpoint: Path, encoder: str, max_variance: float | None) -> None:
    """Centred and flattened likewise; and the mean of all columns is that of all neighbours."""
    options: dict[str, Any] = {"encoder": str(checkpoint) if encoder == "folder" else encoder, "max_variance": max_variance, **SMALL}
    each = Knn(**options, each=True, k=3).fit(lab.source, lab.target, lab.context())(lab.source.table)
    assert each.shape == (len(lab.source), len(lab.target))
    for k, want in ((1, each.max(1)), (len(lab.target), each.mean(1))):
        found = Knn(**options, k=k).fit(lab.source, lab.target, lab.context())(lab.source.table)
        np.testing.assert_allclose(found[:, 0], want, atol=1e-5)
    own = Knn(**options, each=True).fit(lab.source, lab.target, lab.context())(lab.target.table)
    np.testing.assert_allclose(np.diag(own), 1, atol=1e-5)
    np.testing.assert_allclose(own, own.T, atol=1e-5)


@pytest.mark.parametrize("scorer", [Bm25(each=True), Knn(each=True, dim=512)], ids=["bm25", "knn"])
def test_shards_threads_and_copies_are_the_same(lab: Lab, scorer: Bm25 | Knn) -> None:
    fitted = scorer.fit(lab.source, lab.target, lab.context())
    shards = map_pool(Local(2), pickle.loads(pickle.dumps(fitted)), lab.source, list(scorer.reads), "score", 31)
    assert shards.dtype == np.float32
    np.testing.assert_allclose(shards, fitted(lab.source.table), atol=1e-5)


@pytest.mark.parametrize("scorer", [Bm25(each=True), Knn(each=True, dim=512, max_variance=None)], ids=["bm25", "knn"])
def test_a_text_without_words_scores_zero(lab: Lab, scorer: Bm25 | Knn) -> None:
    fitted = scorer.fit(lab.source, lab.target, lab.context())
    assert fitted(lab.pool(["  ", "The pilot"]).table)[0].tolist() == [0] * len(lab.target)
