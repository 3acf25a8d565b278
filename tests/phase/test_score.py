"""What scoring costs: fitting as well, also where what it needs was there already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from laboratory import Lab

from dsel.artifact import Store
from dsel.curvature.ekfac import Ekfac
from dsel.phase.score import cost_of, fit_scorer, make_context
from dsel.protocol import Scorer
from dsel.scorer.bm25 import Bm25
from dsel.scorer.cds import Cds
from dsel.scorer.combination import Combination
from dsel.scorer.influence import Influence

CDS = Cds(num_steps=3, batch_size=2, every=3)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty one."""
    return Store(tmp_path)


def flops(scorer: Scorer, lab: Lab, store: Store) -> float:
    world = replace(lab.world, name="score", store=store)
    return fit_scorer(scorer, lab.source, lab.target, make_context(lab.tune, lab.state, world, world.tokenized))[1]


def size(lab: Lab) -> int:
    return sum(p.numel() for p in lab.context().load(None).parameters())


def test_tuning_counts_as_training_does(lab: Lab, store: Store) -> None:
    assert lab.world.model is not None
    trained = 6.0 * size(lab) * CDS.num_steps * CDS.batch_size * lab.world.model.context
    measured = flops(CDS, lab, store) - trained  # forward, on held-out documents, before and after
    assert 0 < measured < 2.0 * size(lab) * 10 * lab.world.tokenized(lab.world.corpus.validation).token_counts().sum()


@pytest.mark.parametrize("scorer", [CDS, Influence(Ekfac())], ids=["cds", "influence"])
def test_what_was_there_already_counts_as_if_it_was_made_here(scorer: Scorer, lab: Lab, store: Store) -> None:
    first = flops(scorer, lab, store)
    assert first > 0
    assert flops(scorer, lab, Store(store.root)) == pytest.approx(first)  # another run


def test_one_run_pays_once_for_what_two_scorers_share(lab: Lab, store: Store) -> None:
    once = flops(Combination({"cds": CDS}), lab, store)
    sample = 2 * 2.0 * size(lab) * lab.source.token_counts().sum()  # which each part ranks, here all of the source
    assert flops(Combination({"cds": CDS, "again": CDS}), lab, Store(store.root)) == pytest.approx(once + sample, rel=0.1)


def test_words_cost_nothing(lab: Lab, store: Store) -> None:
    assert flops(Bm25(), lab, store) == 0


def test_passes_over_the_pool_come_on_top(lab: Lab, store: Store) -> None:
    world = replace(lab.world, name="score", store=store)
    fitted, spent = fit_scorer(CDS, lab.source, lab.target, make_context(lab.tune, lab.state, world, world.tokenized))
    cost = cost_of(CDS, fitted, spent, lab.source, lab.state)
    assert cost["flops"] == spent + 2.0 * size(lab) * lab.source.token_counts().sum() * 2
    assert (cost["fitting_flops"], cost["scoring_passes"], cost["scored_documents"]) == (spent, 2.0, len(lab.source))
