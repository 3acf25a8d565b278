"""TRAK against plain autograd and a ridge regression written out."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from laboratory import Lab
from made_up_corpus import permuted
from sklearn.linear_model import Ridge
from test_gradient_similarity import Floats, Loops, assert_near, of_lengths, projected

from dsel.error import InputError
from dsel.executor.local import Local
from dsel.phase.score import map_pool
from dsel.pool import TOKENS, Pool
from dsel.scorer.trak import Trak

DIM = 128


def features(loops: Loops, pool: Pool) -> tuple[Floats, Floats]:
    """Gradients of documents' mean log odds (document, parameter), and their mean losses; of windows by tokens."""
    rows, means = [], []
    for unit in loops.windows(pool):
        losses = [loops.losses(window) for window in unit]
        total = torch.zeros(())
        for each in losses:
            p = torch.exp(-each).clamp(1e-6, 0.99)
            total = total + torch.log(p / (1 - p)).sum()
        rows.append(loops.gradient(total / sum(len(each) for each in losses)))
        means.append(torch.cat(losses).mean().item())
    return np.stack(rows), np.array(means)


@pytest.mark.parametrize(("pattern", "damping"), [(None, 1.0), (r"attn\.c_attn|ln_f", 1.0), (None, 1e-3)])
def test_equals_the_formula_written_out(lab: Lab, pattern: str | None, damping: float) -> None:
    source, target, probe = lab.source.take(np.arange(12)), of_lengths(lab.target, 2, 1), of_lengths(lab.source, 3, 1)
    loops, context = Loops.of(lab, pattern or "."), lab.context()
    phi, queries = (projected(features(loops, pool)[0], DIM, context.seed) for pool in (source, target))
    rows, losses = features(loops, probe)
    square = phi.T @ phi
    kernel = square + damping * np.linalg.eigvalsh(square).mean() * np.eye(DIM)
    want = projected(rows, DIM, context.seed) @ np.linalg.inv(kernel) @ queries.T * (1 - np.exp(-losses))[:, None]
    scorer: dict[str, Any] = {"parameters": pattern, "dim": DIM, "damping": damping}
    found = Trak(**scorer, each=True).fit(source, target, context)(probe.table)
    assert_near(found, want)
    assert_near(Trak(**scorer).fit(source, target, context)(probe.table), want.mean(1, keepdims=True))


def test_it_is_a_ridge_regression_on_gradients(lab: Lab) -> None:
    """By scikit-learn: a unit's score is what a regression predicts for the query in which that unit alone has a residual, of 1 - p."""
    source, target = lab.source.take(np.arange(40)), of_lengths(lab.target, 2, 0)
    loops, context = Loops.of(lab, "ln_f|c_proj"), lab.context()
    phi, queries = (projected(features(loops, pool)[0], DIM, context.seed) for pool in (source, target))
    losses = features(loops, source)[1]
    residuals = np.diag(1 - np.exp(-losses))
    ridge = Ridge(alpha=float(np.trace(phi.T @ phi)) / DIM, fit_intercept=False, solver="cholesky").fit(phi, residuals)
    found = Trak(parameters="ln_f|c_proj", dim=DIM, each=True).fit(source, target, context)(source.table)
    assert_near(found, ridge.predict(queries).T)


def test_the_order_of_the_pool_and_its_shards_change_nothing(lab: Lab) -> None:
    target, some = of_lengths(lab.target, 2, 1), lab.source.take(np.arange(40))
    scorer = Trak(sample=30, dim=DIM, each=True)
    fitted = scorer.fit(lab.source, target, lab.context())
    whole = fitted(some.table)
    assert_near(scorer.fit(permuted(lab.source)[0], target, lab.context())(some.table), whole)
    shards = map_pool(Local(2), pickle.loads(pickle.dumps(fitted)), some, [TOKENS], "score", 9)
    assert_near(shards, whole, 1e-4)
    everything = Trak(sample=1000, dim=DIM, each=True).fit(lab.source, target, lab.context())(some.table)
    assert np.abs(everything - whole).max() > 0.01 * np.abs(whole).max()


def test_a_document_without_a_token_scores_zero_and_is_no_target(lab: Lab) -> None:
    source = lab.source.take(np.arange(6))
    fitted = Trak(dim=DIM).fit(source, lab.target, lab.context())
    assert fitted(lab.pool(["", "The pilot"]).table)[0, 0] == 0
    with pytest.raises(InputError, match=r"probe: row 1, id '1' \(1 such rows\): it has no token that is predicted"):
        Trak(dim=DIM, each=True).fit(source, lab.pool(["The pilot", ""]), lab.context())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": 0.0}, r"scorer\.damping=0\.0: must be above 0"),
        ({"sample": 0}, r"scorer\.sample=0: must be at least 1"),
        ({"dim": 0}, r"dim=0: must be from 1"),
        ({"checkpoint": "nobody"}, r"phases\.score: .*phase 'nobody'.*trained so far: pretrain"),
        ({"parameters": "nothing"}, r"scorer\.parameters=nothing: is found in no trained parameter's name"),
    ],
)
def test_wrong_options_are_named(lab: Lab, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Trak(**options).fit(lab.source.take(np.arange(3)), lab.target, lab.context())
