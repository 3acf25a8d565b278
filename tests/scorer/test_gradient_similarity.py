"""Inner products and cosines of gradients against plain autograd. The loops are here for the other scorers by gradients as well."""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from laboratory import Lab

from dsel.error import InputError
from dsel.executor.local import Local
from dsel.functional.projection import Projection
from dsel.phase.score import map_pool
from dsel.pool import TOKENS, Pool
from dsel.scorer.gradient_similarity import GradientSimilarity
from dsel.training.checkpoint import load_model

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Loops:
    """A model in float64, the names of some of its parameters, and autograd, a window of a document at a time."""

    model: torch.nn.Module
    names: list[str]
    context: int

    @staticmethod
    def of(lab: Lab, pattern: str = ".", folder: Path | None = None) -> Loops:
        """Of the lab's model, or of one on disk."""
        model = (lab.context().load(None) if folder is None else load_model(folder)).double().requires_grad_(True)
        assert lab.world.model is not None
        return Loops(model, [name for name, _ in model.named_parameters() if re.search(pattern, name)], lab.world.model.context)

    def windows(self, pool: Pool) -> list[list[torch.Tensor]]:
        """Of each document, windows of `context` predictions that share one token with the window before."""
        rows = [torch.tensor(row) for row in pool.table[TOKENS].to_pylist()]
        return [[row[start : start + self.context + 1] for start in range(0, len(row) - 1, self.context)] for row in rows]

    def losses(self, window: torch.Tensor, logits: torch.Tensor | None = None) -> torch.Tensor:
        """Of each token (time,)."""
        logits = self.model(input_ids=window[None, :-1]).logits[0] if logits is None else logits
        return -torch.log_softmax(logits, -1)[torch.arange(len(window) - 1), window[1:]]

    def gradient(self, value: torch.Tensor) -> Floats:
        """Of a number, by the parameters one after the other."""
        parameters = dict(self.model.named_parameters())
        parts = torch.autograd.grad(value, [parameters[name] for name in self.names])
        return torch.cat([part.flatten() for part in parts]).numpy()

    def window_gradients(self, pool: Pool) -> list[Floats]:
        """Of each document, gradients of its windows' summed losses (window, parameter)."""
        return [np.stack([self.gradient(self.losses(window).sum()) for window in unit]) for unit in self.windows(pool)]

    def gradients(self, pool: Pool, is_mean: bool = False) -> Floats:
        """Of documents' summed losses, or of their mean ones (document, parameter)."""
        sums = np.stack([unit.sum(0) for unit in self.window_gradients(pool)])
        return sums / num_predicted(pool)[:, None] if is_mean else sums


def num_predicted(pool: Pool) -> Floats:
    """Tokens of each document but the first."""
    return np.array([len(row) - 1.0 for row in pool.table[TOKENS].to_pylist()])


def assert_near(found: Any, want: Any, share: float = 1e-3) -> None:
    """Within a share of the largest value, which is what float32 leaves."""
    assert np.shape(found) == np.shape(want)
    largest = float(np.abs(want).max())
    assert largest > 0
    np.testing.assert_allclose(found, want, rtol=0, atol=share * largest)


def of_lengths(pool: Pool, shortest: int, longest: int) -> Pool:
    """Some of a pool's shortest and longest documents: of one window, and of several."""
    order = np.argsort(pool.token_counts(), kind="stable")
    return pool.take(np.r_[order[:shortest], order[len(order) - longest :]])


def units(rows: Floats) -> Floats:
    """Each row over its norm."""
    found: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def projected(rows: Floats, dim: int, seed: int) -> Floats:
    """By the map that the scorers take, of all parameters at once."""
    found = torch.zeros(len(rows), dim, dtype=torch.float64)
    Projection("sparse", dim, seed).add(found, torch.from_numpy(rows), 0)
    return found.numpy()


@pytest.mark.parametrize("pattern", [None, "wte|wpe", r"attn\.c_attn|ln_f"])
def test_dot_equals_a_loop(lab: Lab, pattern: str | None) -> None:
    loops, probe, target = Loops.of(lab, pattern or "."), of_lengths(lab.source, 3, 2), of_lengths(lab.target, 2, 1)
    assert [len(unit) for unit in loops.windows(probe)] == [1, 1, 1, 5, 5]
    own, queries = loops.gradients(probe), loops.gradients(target, is_mean=True)
    scorer: dict[str, Any] = {"parameters": pattern, "tokens_per_batch": 128}
    found = {
        (each, per_token): GradientSimilarity(each=each, per_token=per_token, **scorer).fit(lab.source, target, lab.context())(probe.table)
        for each in (False, True)
        for per_token in (False, True)
    }
    assert_near(found[True, False], own @ queries.T)
    assert_near(found[False, False], own @ queries.mean(0)[:, None])
    assert_near(found[True, True], own @ queries.T / num_predicted(probe)[:, None])
    assert_near(found[False, True], own @ queries.mean(0)[:, None] / num_predicted(probe)[:, None])


@pytest.mark.parametrize("pattern", [None, r"attn\.c_attn|ln_f"])
def test_cosine_equals_that_of_a_loop(lab: Lab, pattern: str | None) -> None:
    """To the last digit that of the same gradients under the same map, and about the cosine of whole ones."""
    loops, probe, target = Loops.of(lab, pattern or "."), of_lengths(lab.source, 3, 2), of_lengths(lab.target, 2, 1)
    own, queries = loops.gradients(probe, is_mean=True), loops.gradients(target, is_mean=True)
    for dim in (64, 8192):
        context = lab.context()
        one = GradientSimilarity("cosine", parameters=pattern, dim=dim).fit(lab.source, target, context)(probe.table)
        each = GradientSimilarity("cosine", parameters=pattern, dim=dim, each=True).fit(lab.source, target, context)(probe.table)
        few, wanted = projected(own, dim, context.seed), projected(queries, dim, context.seed)
        assert_near(each, units(few) @ units(wanted).T, 1e-4)
        assert_near(one, units(few) @ units(wanted.mean(0, keepdims=True)).T, 1e-4)
        if dim == 8192:
            np.testing.assert_allclose(each, units(own) @ units(queries).T, atol=4 / np.sqrt(dim))


def test_a_document_is_like_itself_and_nothing_is_like_nothing(lab: Lab) -> None:
    target = lab.target.take(np.r_[0, 3])
    fitted = GradientSimilarity("cosine", each=True, dim=256).fit(lab.source, target, lab.context())
    np.testing.assert_allclose(np.diag(fitted(target.table)), 1, atol=1e-5)
    assert np.abs(fitted(lab.source.table)).max() < 1
    for similarity in ("dot", "cosine"):
        fitted = GradientSimilarity(similarity, each=True, dim=256).fit(lab.source, target, lab.context())
        scores = fitted(lab.pool(["", "The pilot"]).table)
        assert (scores[0] == 0).all()
        assert (scores[1] != 0).all()


def test_a_phase_by_its_name_is_the_model_that_is_looked_at(lab: Lab) -> None:
    probe, early, loops = of_lengths(lab.source, 2, 1), lab.context().load(None), Loops.of(lab)
    with torch.no_grad():
        for p, q in zip(early.parameters(), loops.model.parameters(), strict=True):
            p *= 0.9
            q.copy_(p)
    context = lab.context(load={None: lab.context().load(None), "early": early}.__getitem__)
    found = GradientSimilarity(checkpoint="early", each=True, per_token=False).fit(lab.source, lab.target, context)(probe.table)
    want = loops.gradients(probe) @ loops.gradients(lab.target, is_mean=True).T
    assert_near(found, want)
    newest = GradientSimilarity(each=True, per_token=False).fit(lab.source, lab.target, context)(probe.table)
    assert np.abs(newest - want).max() > 0.1 * np.abs(want).max()


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_shards_threads_and_copies_are_the_same(lab: Lab, similarity: str) -> None:
    fitted = GradientSimilarity(similarity, each=True, dim=256).fit(lab.source, lab.target, lab.context())
    some = lab.source.take(np.arange(60))
    shards = map_pool(Local(2), pickle.loads(pickle.dumps(fitted)), some, [TOKENS], "score", 13)
    assert_near(shards, fitted(some.table), 1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"similarity": "angle"}, r"scorer\.similarity='angle': must be one of dot, cosine"),
        ({"checkpoint": "nobody"}, r"phases\.score: .*phase 'nobody'.*trained so far: pretrain"),
        ({"parameters": "nothing"}, r"scorer\.parameters=nothing: is found in no trained parameter's name \(16: transformer\.wte\.weight"),
        ({"similarity": "cosine", "dim": 0}, r"dim=0: must be from 1"),
    ],
)
def test_wrong_options_are_named(lab: Lab, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GradientSimilarity(**options).fit(lab.source, lab.target, lab.context())


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_a_target_without_a_token_is_an_error(lab: Lab, similarity: str) -> None:
    """Not a column of zeros."""
    with pytest.raises(InputError, match=r"probe: row 1, id '1' \(1 such rows\): it has no token that is predicted"):
        GradientSimilarity(similarity, each=True).fit(lab.source, lab.pool(["The pilot", ""]), lab.context())
