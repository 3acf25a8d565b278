"""Self-influence against matrices written out."""

from __future__ import annotations

import logging
import pickle
from typing import Any

import numpy as np
import pytest
from laboratory import Lab
from test_gradient_similarity import Loops, assert_near, num_predicted, of_lengths
from test_influence import FEW, SIZE, curvature_of

from dsel.curvature.conjugate_gradient import ConjugateGradient
from dsel.curvature.ekfac import Ekfac
from dsel.curvature.explicit import Explicit
from dsel.curvature.identity import Identity
from dsel.error import InputError
from dsel.executor.local import Local
from dsel.functional.inverse_curvature import ByConjugateGradient
from dsel.phase.score import map_pool
from dsel.pool import TOKENS, Pool
from dsel.protocol import Curvature
from dsel.scorer.self_influence import OwnScore, SelfInfluence

STEPS = ConjugateGradient(damping=1e-2, max_iterations=300, tolerance=1e-4)


@pytest.fixture(scope="module")
def source(lab: Lab) -> Pool:
    """Documents of one window and of several."""
    return of_lengths(lab.source.take(np.flatnonzero(lab.source.token_counts() < 64)), 3, 1)


@pytest.mark.parametrize("curvature", [Identity(), Explicit(damping=1e-2), STEPS], ids=["identity", "explicit", "conjugate_gradient"])
def test_equals_the_formula_written_out(lab: Lab, source: Pool, curvature: Curvature) -> None:
    """A document of several windows has the sum of theirs."""
    loops = Loops.of(lab, FEW)
    is_plain = isinstance(curvature, Identity)
    inverse = np.eye(SIZE) if is_plain else np.linalg.inv(curvature_of(loops, source) + 1e-2 * np.eye(SIZE))
    probe = of_lengths(source, 1, 1)
    assert [len(unit) for unit in loops.windows(probe)] == [1, 2]
    own = [np.einsum("wp,pq,wq->", each, inverse, each) for each in loops.window_gradients(probe)]
    found = SelfInfluence(curvature, parameters=FEW).fit(source, lab.target, lab.context())(probe.table)
    assert_near(found, -np.array(own)[:, None] / num_predicted(source).sum())


def test_odd_documents_come_last(lab: Lab) -> None:
    """Shuffled words, under the curvature that is the default."""
    texts = lab.source.table["text"].to_pylist()[:20]
    shuffled = [" ".join(np.random.default_rng(0).permutation(text.split())) for text in texts]
    fitted = SelfInfluence(Ekfac()).fit(lab.source.take(np.arange(80)), lab.target, lab.context())
    plain, odd = (fitted(lab.pool(each).table)[:, 0] for each in (texts, shuffled))
    assert (odd < plain).mean() > 0.9
    assert (fitted(lab.pool([""]).table) == 0).all()


@pytest.mark.parametrize("curvature", [ConjugateGradient(damping=1.0), Ekfac()], ids=["conjugate_gradient", "ekfac"])
def test_shards_threads_and_copies_are_the_same(lab: Lab, source: Pool, curvature: Curvature) -> None:
    """Also where a curvature runs the model for every candidate."""
    names = "attn" if isinstance(curvature, Ekfac) else FEW
    fitted = SelfInfluence(curvature, parameters=names).fit(source, lab.target, lab.context())
    some = of_lengths(lab.source, 8, 0)
    shards = map_pool(Local(2), pickle.loads(pickle.dumps(fitted)), some, [TOKENS], "score", 2)
    assert_near(shards, fitted(some.table))


def test_a_thread_may_start_while_another_solves(lab: Lab, source: Pool) -> None:
    """A product with the curvature exchanges its model's parameters for a while; those that are copied then stay what they are."""
    fitted = SelfInfluence(ConjugateGradient(damping=1.0), parameters=FEW).fit(source, lab.target, lab.context())
    assert isinstance(fitted, OwnScore)
    assert isinstance(fitted.inverse, ByConjugateGradient)
    before, seen = list(fitted.model.parameters()), []
    with fitted.inverse.loss.model.register_forward_pre_hook(lambda *_: seen.append(list(fitted.model.parameters()))):
        fitted(source.table)
    assert seen
    assert all(p is q for each in seen for p, q in zip(each, before, strict=True))


def test_what_has_not_converged_is_said(lab: Lab, source: Pool, caplog: pytest.LogCaptureFixture) -> None:
    scorer = SelfInfluence(ConjugateGradient(damping=1e-2, max_iterations=1, tolerance=1e-6), parameters=FEW)
    fitted = scorer.fit(source, lab.target, lab.context())
    with caplog.at_level(logging.WARNING, "dsel"):
        fitted(source.table)
    assert any("conjugate gradients stopped after 1 iterations at a residual of" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checkpoint": "nobody"}, r"phases\.score: .*phase 'nobody'.*trained so far: pretrain"),
        ({"parameters": "nothing"}, r"scorer\.parameters=nothing: is found in no trained parameter's name"),
        ({"sample": 0}, r"scorer\.sample=0: must be at least 1"),
    ],
)
def test_wrong_options_are_named(lab: Lab, source: Pool, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SelfInfluence(Identity(), **options).fit(source, lab.target, lab.context())
