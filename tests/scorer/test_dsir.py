"""DSIR against a computation by hand."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from laboratory import Lab
from sklearn.metrics import roc_auc_score

from dsel.functional.ngrams import Ngrams
from dsel.pool import PLANTED, Pool
from dsel.scorer.dsir import Dsir

NO_CONTEXT: Any = None  # it looks at none


@pytest.mark.parametrize("python", [False, True])
def test_equals_the_sum_of_log_ratios(python: bool) -> None:
    target, source = ["A graph, a tree.", "The tree"], ["a car", "The car, the tree"]
    ngrams = Ngrams(2, 997, python)

    def buckets(text: str) -> list[int]:
        return ngrams.buckets(pa.array([text]))[0].tolist()

    counts = [Counter(bucket for text in texts for bucket in buckets(text)) for texts in (target, source)]
    pools = [Pool("x", pa.table({"text": texts}), "x") for texts in (source, target)]
    scores = Dsir(2, 997, smoothing=1e-3, python_features=python).fit(*pools, NO_CONTEXT)(pools[0].table)
    for text, score in zip(source, scores[:, 0].tolist(), strict=True):
        log_p = [sum(math.log(c[b] / c.total() + 1e-3) for b in buckets(text)) for c in counts]
        assert score == pytest.approx(log_p[0] - log_p[1], rel=1e-5)


def test_finds_the_domain(lab: Lab) -> None:
    fitted = Dsir().fit(lab.source, lab.target, lab.context())
    assert roc_auc_score(lab.source.table[PLANTED].to_numpy(), fitted(lab.source.table)[:, 0]) > 0.9
    assert np.isfinite(fitted(lab.source.table)).all()
