"""Influence through pretraining and fine-tuning against the paper's formulas, written out from matrices by torch.func."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from laboratory import Lab
from test_gradient_similarity import Floats, Loops, assert_near, num_predicted, of_lengths
from test_influence import FEW, SIZE, count_artifacts, curvature_of, fresh

from dsel.context import Context
from dsel.curvature.conjugate_gradient import ConjugateGradient
from dsel.curvature.ekfac import Ekfac
from dsel.curvature.explicit import Explicit
from dsel.curvature.identity import Identity
from dsel.error import InputError
from dsel.pool import Pool
from dsel.scorer.multi_stage_influence import MultiStageInfluence

LAST = r"ln_f"  # the second half of what is looked at
HALF = SIZE // 2
DAMPING = {"gauss_newton": 1e-2, "hessian": 0.5}  # neither model is at a minimum
PHASES: dict[str, Any] = {"pretrained": "pretrain", "finetuned": "finetune", "parameters": FEW}


@pytest.fixture(scope="module")
def tuned(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The lab after a fine-tuning phase, with a store of its own."""
    own = fresh(lab, tmp_path_factory.mktemp("store"))
    folder = tmp_path_factory.mktemp("finetune")
    optimizer = partial(torch.optim.AdamW, lr=1e-2)
    phase = replace(lab.tune, optimizer=optimizer, start="weights", data="finetune", total_steps=12, until=1.0, every=12)
    world = replace(own.world, name="finetune")
    phase.run(lab.state, world, folder)
    return replace(own, state=phase.read(lab.state, world, folder))


@pytest.fixture(scope="module")
def pools(lab: Lab) -> tuple[Pool, Pool, Pool]:
    """A source, a target and candidates."""
    source = of_lengths(lab.source.take(np.flatnonzero(lab.source.token_counts() < 64)), 3, 1)
    return source, of_lengths(lab.target, 2, 0), lab.source.take(np.r_[0, 1])


def context_of(tuned: Lab) -> Context:
    """As the score phase makes it, with little to fine-tune on."""
    return tuned.context(finetune=of_lengths(tuned.context().finetune, 2, 0))


@pytest.fixture(scope="module")
def curvatures(tuned: Lab, pools: tuple[Pool, Pool, Pool]) -> dict[str, tuple[Floats, Floats]]:
    """Of the fine-tuning loss and of the pretraining loss, by kind."""
    before, after = (Loops.of(tuned, FEW, tuned.state.checkpoint_of(name)) for name in ("pretrain", "finetune"))
    finetune = context_of(tuned).finetune
    return {kind: (curvature_of(after, finetune, kind), curvature_of(before, pools[0], kind)) for kind in DAMPING}


def by_hand(f: Floats, g: Floats, queries: Floats, damping: float, trained: str | None, alpha: float) -> tuple[Floats, Floats]:
    """What gradients of pretraining and of fine-tuning examples are multiplied with (query, parameter). W is the first half."""
    moved, turned, eye = np.zeros_like(queries), np.zeros_like(queries), np.eye(SIZE)
    w, theta = slice(0, HALF), slice(HALF, None)
    if trained is None:  # updated embedding: all is W
        turned = np.linalg.solve(f + (damping + 2 * alpha) * eye, queries.T).T
        moved = 2 * alpha * turned
    else:  # fixed embedding; a second half that is trained on from its pretrained weights is held to them
        turned[:, theta] = np.linalg.solve(f[theta, theta] + (damping + 2 * alpha) * eye[theta, theta], queries[:, theta].T).T
        moved[:, w] = queries[:, w] - turned[:, theta] @ f[theta, w]
        moved[:, theta] = 2 * alpha * turned[:, theta]
    return np.linalg.solve(g + damping * eye, moved.T).T, turned


@pytest.mark.parametrize("kind", list(DAMPING))
@pytest.mark.parametrize(("trained", "alpha"), [(LAST, 0.0), (None, 0.05), (LAST, 0.05)], ids=["fixed", "updated", "both"])
def test_equals_the_formulas_written_out(
    tuned: Lab, pools: tuple[Pool, Pool, Pool], curvatures: dict[str, tuple[Floats, Floats]], kind: str, trained: str | None, alpha: float
) -> None:
    (source, target, probe), context = pools, context_of(tuned)
    before, after = (Loops.of(tuned, FEW, tuned.state.checkpoint_of(name)) for name in ("pretrain", "finetune"))
    queries = after.gradients(target, is_mean=True)
    of_pretraining, of_finetuning = by_hand(*curvatures[kind], queries, DAMPING[kind], trained, alpha)
    curvature = Explicit(kind, DAMPING[kind])
    options: dict[str, Any] = {**PHASES, "curvature": curvature, "kind": kind, "trained": trained, "proximity": alpha, "sample": 5}
    want = before.gradients(probe) @ of_pretraining.T / num_predicted(source).sum()
    found = MultiStageInfluence(**options, each=True, per_token=False).fit(source, target, context)(probe.table)
    assert_near(found, want)
    if kind == "gauss_newton":
        return
    options |= {"pretrained": None}  # that before the other
    mean = MultiStageInfluence(**options).fit(source, target, context)(probe.table)
    assert_near(mean, want.mean(1, keepdims=True) / num_predicted(probe)[:, None])
    other = MultiStageInfluence(**options, of="finetuning", each=True, per_token=False).fit(context.finetune, target, context)
    assert_near(other(probe.table), after.gradients(probe) @ of_finetuning.T / num_predicted(context.finetune).sum())


def test_a_model_that_is_tuned_here_is_that_of_a_phase(tuned: Lab, lab: Lab, pools: tuple[Pool, Pool, Pool], tmp_path: Path) -> None:
    """`finetuned` null: as `cds` tunes, an artifact that all who ask share."""
    own, (source, target, probe) = fresh(lab, tmp_path), pools
    scorer = MultiStageInfluence(Identity(), num_steps=6, every=3, learning_rate=1e-2, parameters="attn", each=True)
    found = scorer.fit(source, target, own.context())(probe.table)
    replace(scorer, proximity=0.5).fit(source, target, own.context())
    (folder,) = tmp_path.glob("tune-*")
    again = replace(lab, state=lab.state.with_checkpoint("finetune", folder))
    named = replace(scorer, pretrained="pretrain", finetuned="finetune")
    np.testing.assert_array_equal(named.fit(source, target, again.context())(probe.table), found)
    assert np.abs(named.fit(source, target, tuned.context())(probe.table) - found).max() > 0.01 * np.abs(found).max()


def test_a_strong_proximity_is_a_plain_influence(
    tuned: Lab, pools: tuple[Pool, Pool, Pool], curvatures: dict[str, tuple[Floats, Floats]]
) -> None:
    """All stays as it was: what is left is the fine-tuned model's gradient under the curvature of pretraining."""
    source, target, probe = pools
    before, after = (Loops.of(tuned, FEW, tuned.state.checkpoint_of(name)) for name in ("pretrain", "finetune"))
    inverse = np.linalg.inv(curvatures["hessian"][1] + DAMPING["hessian"] * np.eye(SIZE))
    want = before.gradients(probe) @ inverse @ after.gradients(target, is_mean=True).T / num_predicted(source).sum()
    scorer = MultiStageInfluence(Explicit("hessian", DAMPING["hessian"]), **PHASES, proximity=1e5, each=True, per_token=False)
    assert_near(scorer.fit(source, target, context_of(tuned))(probe.table), want)


def test_factors_of_both_phases_are_shared(tuned: Lab, pools: tuple[Pool, Pool, Pool], tmp_path: Path) -> None:
    own, target, some = replace(fresh(tuned, tmp_path), state=tuned.state), pools[1], tuned.source.take(np.arange(40)).table
    source = own.context().pretraining
    scorer = MultiStageInfluence(Ekfac(), pretrained="pretrain", finetuned="finetune", parameters="attn", sample=20, each=True)
    whole = scorer.fit(source, target, own.context())(some)
    assert count_artifacts(own) == {"factors": 2, "preconditioned": 1}
    assert_near(replace(scorer, rank=64).fit(source, target, own.context())(some), whole, 1e-4)
    few = replace(scorer, rank=16).fit(source, target, own.context())(some)
    assert np.abs(few - whole).max() > 1e-3 * np.abs(whole).max()
    assert np.corrcoef(few.ravel(), whole.ravel())[0, 1] > 0.95
    replace(scorer, of="finetuning").fit(own.context().finetune, target, own.context())  # both sides are kept
    assert count_artifacts(own) == {"factors": 2, "preconditioned": 1}
    replace(scorer, proximity=0.3).fit(source, target, own.context())
    scorer.fit(source, target.take(np.r_[1]), own.context())
    assert count_artifacts(own) == {"factors": 2, "preconditioned": 3}


def test_what_has_not_converged_is_said_each_time(tuned: Lab, pools: tuple[Pool, Pool, Pool], caplog: pytest.LogCaptureFixture) -> None:
    """Of both phases' systems."""
    steps = ConjugateGradient(damping=1e-3, max_iterations=1, tolerance=1e-6)
    for _ in range(2):
        with caplog.at_level(logging.WARNING, "dsel"):
            MultiStageInfluence(steps, **PHASES).fit(*pools[:2], tuned.context())
        assert len(caplog.messages) == 2
        for message in caplog.messages:
            assert message.startswith("scorer multi_stage_influence: conjugate gradients stopped after 1 iterations at a residual of")
        caplog.clear()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trained": "nothing"}, r"scorer\.trained=nothing: is found in none of 2 parameters' names"),
        ({"proximity": 0.0}, r"scorer\.proximity=0\.0: .*set scorer\.proximity above 0"),
        ({"proximity": -1.0}, r"scorer\.proximity=-1\.0: must be at least 0"),
        ({"of": "tuning"}, r"scorer\.of='tuning': must be one of pretraining, finetuning"),
        ({"sample": 0}, r"scorer\.sample=0: must be at least 1"),
        ({"rank": 0}, r"scorer\.rank=0: must be at least 1, or null"),
        ({"rank": 3}, r"scorer\.rank=3: low rank goes by the factors of curvature=ekfac"),
        ({"kind": "fisher"}, r"scorer\.kind='fisher': must be one of gauss_newton, hessian"),
        ({"finetuned": "nobody"}, r"phases\.score: .*phase 'nobody'.*trained so far: pretrain, finetune"),
        ({"parameters": "nothing"}, r"scorer\.parameters=nothing: is found in no trained parameter's name"),
        ({"finetuned": "pretrain", "pretrained": None}, r"scorer\.finetuned=pretrain: nothing was trained before it"),
    ],
)
def test_wrong_options_are_named(tuned: Lab, pools: tuple[Pool, Pool, Pool], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MultiStageInfluence(**{"curvature": Identity(), **PHASES, **options}).fit(*pools[:2], tuned.context())
