"""Random scores are uniform, and belong to ids."""

from __future__ import annotations

import numpy as np
from laboratory import Lab
from made_up_corpus import make_pool

from dsel.scorer.random import Random, RandomScore


def test_scores_are_uniform() -> None:
    pool = make_pool([{"text": "", "id": f"row {i}"} for i in range(4000)])
    scores = RandomScore(7)(pool.table)[:, 0]
    counts, _ = np.histogram(scores, bins=10, range=(0, 1))
    assert counts.sum() == 4000
    assert ((counts - 400) ** 2 / 400).sum() < 33  # chi-square with 9 degrees of freedom: p = 1e-4
    assert abs(np.corrcoef(scores, RandomScore(8)(pool.table)[:, 0])[0, 1]) < 0.06


def test_a_score_belongs_to_the_id() -> None:
    few, many = ([{"text": "", "id": f"row {i}"} for i in rows] for rows in ([5, 2], range(10)))
    scores = RandomScore(3)(make_pool(many).table)
    np.testing.assert_array_equal(RandomScore(3)(make_pool(few).table), scores[[5, 2]])


def test_the_seed_comes_from_the_run_and_the_phase(lab: Lab) -> None:
    fit = [Random().fit(lab.source, lab.target, lab.context(name)) for name in ("score", "score", "score_again")]
    assert fit[0] == fit[1]
    assert fit[0] != fit[2]
