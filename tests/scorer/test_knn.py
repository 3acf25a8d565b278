"""Nearest neighbours among the target with each kind of encoder and index."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from laboratory import Lab
from made_up_corpus import artifact_names, make_pool, run_tiny, tiny_config
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from dsel.error import InputError
from dsel.executor.local import Local
from dsel.phase.score import Score, map_pool
from dsel.pool import PLANTED
from dsel.scorer.knn import Knn

SMALL = {"batch_size": 8, "max_length": 32, "sample": 100, "dim": 512}


def named(encoder: str, checkpoint: Path) -> str:
    return str(checkpoint) if encoder == "folder" else encoder


@pytest.mark.parametrize("encoder", ["ngrams", "pretrained", "folder"])
@pytest.mark.parametrize("k", [1, 10])
def test_finds_the_domain(lab: Lab, checkpoint: Path, encoder: str, k: int) -> None:
    fitted = Knn(encoder=named(encoder, checkpoint), k=k, **SMALL).fit(lab.source, lab.target, lab.context())  # type: ignore[arg-type]
    assert roc_auc_score(lab.source.table[PLANTED].to_numpy(), fitted(lab.source.table)[:, 0]) > 0.9


def test_equals_scikit_learn_on_bags_of_words(lab: Lab) -> None:
    """Log counts, hashed into so many numbers that no word of these few shares one with another."""
    texts = [pool.table["text"].to_pylist() for pool in (lab.source, lab.target)]
    counts = CountVectorizer(token_pattern=r"\w+|[^\w\s]+").fit(texts[0] + texts[1])
    source, target = (np.log1p(counts.transform(part).toarray()) for part in texts)
    distances, _ = NearestNeighbors(n_neighbors=3, metric="cosine", algorithm="brute").fit(target).kneighbors(source)
    scores = Knn(k=3, dim=2**16, max_variance=None).fit(lab.source, lab.target, lab.context())(lab.source.table)
    np.testing.assert_allclose(scores[:, 0], 1 - distances.mean(1), atol=1e-5)


def test_without_a_spectrum_a_copy_has_similarity_one(lab: Lab) -> None:
    fitted = Knn(k=1, max_variance=None).fit(lab.source, lab.target, lab.context())
    np.testing.assert_allclose(fitted(lab.target.table)[:, 0], 1, atol=1e-5)
    assert fitted(lab.source.table).max() <= 1 + 1e-5
    assert fitted(make_pool([{"text": "  "}]).table).tolist() == [[0]]


@pytest.mark.parametrize("index", ["flat", "ivf", "hnsw"])
def test_faiss_in_threads_and_shards(lab: Lab, index: Any) -> None:
    pytest.importorskip("faiss")
    exact = Knn(**SMALL).fit(lab.source, lab.target, lab.context())(lab.source.table)  # type: ignore[arg-type]
    scorer = Knn(index=index, **SMALL)  # type: ignore[arg-type]
    fitted = scorer.fit(lab.source, lab.target, lab.context())
    whole = fitted(lab.source.table)
    assert whole.max() <= exact.max() + 1e-5
    if index == "flat":
        np.testing.assert_allclose(whole, exact, atol=1e-5)
    copy = pickle.loads(pickle.dumps(fitted))
    shards = map_pool(Local(2), copy, lab.source, list(scorer.reads), "score", 31)
    np.testing.assert_allclose(shards, whole, atol=1e-5)


@pytest.mark.parametrize(("encoder", "needed"), [("ngrams", False), ("minilm", False), ("somebody/encoder", False), ("pretrained", True)])
def test_a_model_is_needed_for_its_own_vectors_only(lab: Lab, encoder: str, needed: bool) -> None:
    assert Score(Knn(encoder=encoder), lab.tune).needs_checkpoint is needed


def test_a_run_on_ngrams_trains_and_tokenizes_nothing(files: tuple[Path, Path], tmp_path: Path) -> None:
    overrides = ["data=shards", "scorer=knn", "budget.units=20", f"output={tmp_path / 'best.jsonl'}"]
    config = tiny_config(*files, tmp_path / "out", *overrides, experiment="select")
    run_tiny(config)
    assert {"pretrain", "tokenizer", "tokens"}.isdisjoint(artifact_names(config))
    assert "score" in artifact_names(config)


def test_a_fitted_score_is_small(lab: Lab) -> None:
    """The target's vectors, the strong axes, and little else."""
    fitted = Knn().fit(lab.source, lab.target, lab.context())
    assert len(pickle.dumps(fitted)) < 4 * 1024 * (len(lab.target) + 100) + 10_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"index": "tree"}, r"scorer\.index='tree': must be one of exact, flat, ivf, hnsw"),
        ({"k": 0}, r"scorer\.k=0"),
        ({"sample": 0}, r"scorer\.sample=0"),
        ({"max_variance": 0.0}, r"scorer\.max_variance=0\.0"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Knn(**options)


def test_a_wrong_path_is_named(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"scorer\.encoder={tmp_path}/nothing: not 'ngrams', 'pretrained', 'minilm', a folder"):
        Knn(encoder=f"{tmp_path}/nothing").fit(lab.source, lab.target, lab.context())
