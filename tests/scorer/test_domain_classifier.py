"""The n-gram classifier against scikit-learn's own decision function."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from laboratory import Lab
from made_up_corpus import POOL_DOMAINS, TARGET_DOMAIN, documents
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import normalize

from dsel.functional.hashing import draw_by_text
from dsel.functional.ngrams import Ngrams
from dsel.pool import PLANTED
from dsel.scorer.domain_classifier import DomainClassifier


@pytest.mark.parametrize("options", [{}, {"max_ngram": 1, "negatives": 1.0, "regularization": 0.3, "num_features": 1024}])
def test_equals_scikit_learn(lab: Lab, options: dict[str, float]) -> None:
    scorer = DomainClassifier(**options)  # type: ignore[arg-type]
    fitted = scorer.fit(lab.source, lab.target, lab.context())
    source, target = lab.source.table["text"].to_pylist(), lab.target.table["text"].to_pylist()
    count = min(len(source), int(scorer.negatives * len(target)))
    drawn = draw_by_text(lab.source.table["text"], count, int(lab.context().rng.integers(2**31)))
    negatives = [source[row] for row in drawn]
    ngrams = Ngrams(scorer.max_ngram, scorer.num_features)

    def features(texts: list[str]) -> Any:
        return normalize(ngrams.matrix(pa.array(texts)) > 0)

    reference = LogisticRegression(C=scorer.regularization, class_weight="balanced", max_iter=1000, solver="liblinear", random_state=0)
    reference.fit(features(target + negatives), [1] * len(target) + [0] * count)
    expected = reference.decision_function(features(source))
    np.testing.assert_allclose(fitted(lab.source.table)[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_finds_the_domain(lab: Lab) -> None:
    fitted = DomainClassifier().fit(lab.source, lab.target, lab.context())
    assert roc_auc_score(lab.source.table[PLANTED].to_numpy(), fitted(lab.source.table)[:, 0]) > 0.95
    unseen = [documents(domain, 15, seed=4) for domain in (TARGET_DOMAIN, *POOL_DOMAINS)]
    scores = fitted(lab.pool([row["text"] for rows in unseen for row in rows]).table)[:, 0]
    assert roc_auc_score(np.arange(60) < 15, scores) > 0.95


def test_the_order_of_the_pool_does_not_matter_to_the_fit(lab: Lab) -> None:
    order = np.random.default_rng(5).permutation(len(lab.source))
    fitted = [DomainClassifier(negatives=1.0).fit(pool, lab.target, lab.context()) for pool in (lab.source, lab.source.take(order))]
    np.testing.assert_array_equal(fitted[1](lab.source.table), fitted[0](lab.source.table))
