"""Influence against autograd a window at a time and matrices written out."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from laboratory import Lab
from made_up_corpus import permuted
from safetensors.torch import load_file
from test_gradient_similarity import Floats, Loops, assert_near, num_predicted, of_lengths

from dsel.artifact import Store
from dsel.curvature.conjugate_gradient import ConjugateGradient
from dsel.curvature.ekfac import Ekfac
from dsel.curvature.explicit import Explicit
from dsel.curvature.identity import Identity
from dsel.error import InputError
from dsel.executor.local import Local
from dsel.functional.alignment import _load_derivatives, plain_attention
from dsel.phase.score import map_pool
from dsel.pool import TOKENS, Pool
from dsel.protocol import Curvature
from dsel.scorer.influence import Influence

FEW = r"(ln_1|ln_f)\.bias"  # 64 parameters: a matrix of them takes no time
SIZE = 64


def curvature_of(loops: Loops, pool: Pool, kind: str = "gauss_newton") -> Floats:
    """Of the mean loss over all tokens of the pool (parameter, parameter), by torch.func."""
    _load_derivatives()
    parameters = dict(loops.model.requires_grad_(False).named_parameters())
    shapes = [parameters[name].shape for name in loops.names]
    flat = torch.cat([parameters[name].flatten() for name in loops.names])
    total = torch.zeros(len(flat), len(flat), dtype=torch.float64)
    for window in [window for unit in loops.windows(pool) for window in unit]:

        def outputs(values: torch.Tensor, window: torch.Tensor = window) -> torch.Tensor:
            parts = torch.split(values, [shape.numel() for shape in shapes])
            given = {name: part.view(shape) for name, part, shape in zip(loops.names, parts, shapes, strict=True)}
            with plain_attention():
                found: torch.Tensor = torch.func.functional_call(loops.model, given, (window[None, :-1],)).logits[0]
            return found

        if kind == "hessian":
            total += torch.func.hessian(lambda values, w=window, f=outputs: loops.losses(w, f(values)).sum())(flat)
            continue
        jacobian, p = torch.func.jacfwd(outputs)(flat), outputs(flat).softmax(-1)
        bent = p[..., None] * jacobian - p[..., None] * torch.einsum("tc,tcp->tp", p, jacobian)[:, None]
        total += jacobian.flatten(0, 1).T @ bent.flatten(0, 1)
    loops.model.requires_grad_(True)
    return total.numpy() / num_predicted(pool).sum()


def count_artifacts(lab: Lab) -> dict[str, int]:
    return {name: len(list(lab.store.root.glob(f"{name}-*"))) for name in ("factors", "preconditioned")}


def fresh(lab: Lab, folder: Path) -> Lab:
    """The lab with a store of its own, in which nothing is found."""
    return replace(lab, store=Store(folder), world=replace(lab.world, store=Store(folder)))


@pytest.fixture(scope="module")
def pools(lab: Lab) -> tuple[Pool, Pool, Pool]:
    """A source, a target and candidates, each with documents of one window and of several."""
    source = lab.source.take(np.flatnonzero(lab.source.token_counts() < 64))
    return of_lengths(source, 3, 1), of_lengths(lab.target, 2, 1), lab.source.take(np.r_[0, 1, 2])


DAMPING = {"gauss_newton": 1e-2, "hessian": 0.2}  # the model is not at a minimum
CURVATURES: dict[str, tuple[Curvature, str | None]] = {
    "identity": (Identity(), None),
    "explicit": (Explicit(damping=DAMPING["gauss_newton"]), "gauss_newton"),
    "explicit_hessian": (Explicit("hessian", DAMPING["hessian"]), "hessian"),
    "conjugate_gradient": (ConjugateGradient(damping=DAMPING["gauss_newton"], max_iterations=300, tolerance=1e-5), "gauss_newton"),
    "conjugate_gradient_hessian": (ConjugateGradient("hessian", DAMPING["hessian"], 300, 1e-5), "hessian"),
}


@pytest.fixture(scope="module")
def inverse(lab: Lab, pools: tuple[Pool, Pool, Pool]) -> Callable[[str | None], Floats]:
    """The inverse of the source's damped curvature, made once a kind."""
    made: dict[str | None, Floats] = {None: np.eye(SIZE)}

    def of(kind: str | None) -> Floats:
        if kind not in made:
            made[kind] = np.linalg.inv(curvature_of(Loops.of(lab, FEW), pools[0], str(kind)) + DAMPING[str(kind)] * np.eye(SIZE))
        return made[kind]

    return of


@pytest.mark.parametrize("name", CURVATURES)
def test_equals_the_formula_written_out(lab: Lab, pools: tuple[Pool, Pool, Pool], inverse: Callable[..., Floats], name: str) -> None:
    (curvature, kind), (source, target, probe) = CURVATURES[name], pools
    loops = Loops.of(lab, FEW)
    columns = loops.gradients(probe) @ inverse(kind) @ loops.gradients(target, is_mean=True).T / num_predicted(source).sum()
    assert max(len(unit) for unit in loops.windows(probe)) > 1
    options: dict[str, Any] = {"curvature": curvature, "parameters": FEW, "per_token": False}
    found = Influence(**options, each=True).fit(source, target, lab.context())(probe.table)
    assert_near(found, columns)
    if name == "explicit":
        return  # its matrix takes the longest, and is made anew
    whole = Influence(**options).fit(source, target, lab.context())(probe.table)
    assert_near(whole, columns.mean(1, keepdims=True))


def test_of_all_parameters(lab: Lab, pools: tuple[Pool, Pool, Pool]) -> None:
    """Embeddings that are tied, positions, norms and matrices, without a curvature; and of candidates' mean losses."""
    source, target, probe = pools
    loops = Loops.of(lab)
    want = loops.gradients(probe) @ loops.gradients(target, is_mean=True).T / num_predicted(source).sum()
    found = Influence(Identity(), each=True, per_token=False).fit(source, target, lab.context())(probe.table)
    assert_near(found, want)
    by_token = Influence(Identity(), each=True).fit(source, target, lab.context())(probe.table)
    assert_near(by_token, want / num_predicted(probe)[:, None])


def test_the_sign_is_that_of_leaving_a_document_out(lab: Lab, pools: tuple[Pool, Pool, Pool]) -> None:
    """A step down a document's gradient, as training on it would take, lowers the loss of a target document that has a score above 0."""
    source, target, _ = pools
    fitted = Influence(Identity(), each=True, per_token=False).fit(source, target, lab.context())
    scores = fitted(lab.target.table)
    loops = Loops.of(lab)
    for row, gradient in enumerate(loops.gradients(lab.target)):
        sizes = [p.numel() for p in loops.model.parameters()]
        moved = Loops.of(lab)
        with torch.no_grad():
            for p, step in zip(moved.model.parameters(), torch.split(torch.from_numpy(gradient), sizes), strict=True):
                p -= 1e-6 * step.view(p.shape)
            losses = [[torch.cat([each.losses(w) for w in unit]).mean() for unit in each.windows(target)] for each in (loops, moved)]
        gained = (np.array(losses[0]) - np.array(losses[1])) / 1e-6 / num_predicted(source).sum()
        np.testing.assert_allclose(scores[row], gained, rtol=0.05, atol=1e-3 * np.abs(gained).max())


def test_ekfac_equals_its_factors_on_disk(lab: Lab, pools: tuple[Pool, Pool, Pool], tmp_path: Path) -> None:
    """(values + damping) in the eigenbasis, the bias a last column: from the file, with gradients by loops."""
    source, target, probe = pools
    own, layers = fresh(lab, tmp_path), r"attn\.c_(attn|proj)\."
    fitted = Influence(Ekfac(), parameters=layers, each=True, per_token=False).fit(source, target, own.context())
    (path,) = tmp_path.glob("factors-*/factors.safetensors")
    arrays, want = load_file(path), np.zeros((3, 3))
    for layer in ("c_attn", "c_proj"):
        name = f"transformer.h.0.attn.{layer}"
        loops = replace(Loops.of(lab), names=[f"{name}.weight", f"{name}.bias"])
        num_inputs, num_outputs = loops.model.get_parameter(f"{name}.weight").shape
        parts = {part: arrays[f"{name}.weight/{part}"].double().numpy() for part in ("outputs", "inputs", "values")}
        turned = []
        for pool, is_mean in ((probe, False), (target, True)):
            matrices = loops.gradients(pool, is_mean).reshape(3, num_inputs + 1, num_outputs).transpose(0, 2, 1)  # the bias comes last
            turned.append(parts["outputs"].T @ matrices @ parts["inputs"])
        want += np.einsum("zoi,foi->zf", turned[0], turned[1] / (parts["values"] + 0.1 * parts["values"].mean()))
    assert_near(fitted(probe.table), want / num_predicted(source).sum())


def test_factors_are_shared_and_queries_kept(lab: Lab, pools: tuple[Pool, Pool, Pool], tmp_path: Path) -> None:
    source, target, probe = pools
    own, scorer = fresh(lab, tmp_path), Influence(Ekfac(), each=True)
    first = scorer.fit(source, target, own.context())(probe.table)
    assert count_artifacts(own) == {"factors": 1, "preconditioned": 1}
    np.testing.assert_array_equal(scorer.fit(source, target, own.context())(probe.table), first)
    replace(scorer, per_token=False).fit(source, target, own.context())
    assert count_artifacts(own) == {"factors": 1, "preconditioned": 1}
    other = scorer.fit(source, target.take(np.r_[2, 0]), own.context())(probe.table)
    assert count_artifacts(own) == {"factors": 1, "preconditioned": 2}
    assert_near(other, first[:, [2, 0]], 1e-4)
    replace(scorer, curvature=Ekfac(damping=0.1)).fit(source, target, own.context())  # of the same factors
    assert count_artifacts(own) == {"factors": 1, "preconditioned": 3}
    replace(scorer, sample=2).fit(source, target, own.context())
    replace(scorer, curvature=Ekfac(labels="empirical")).fit(source, target, own.context())
    assert count_artifacts(own) == {"factors": 3, "preconditioned": 5}


def test_rank(lab: Lab, pools: tuple[Pool, Pool, Pool]) -> None:
    (source, target, _), some = pools, lab.source.take(np.arange(60)).table
    whole, large, half, little = (
        Influence(Ekfac(), rank=rank).fit(source, target, lab.context())(some)[:, 0] for rank in (None, 64, 20, 1)
    )
    assert_near(large, whole, 1e-4)
    assert np.abs(half - whole).max() > 1e-3 * np.abs(whole).max()
    assert np.corrcoef(half, whole)[0, 1] > max(0.98, np.corrcoef(little, whole)[0, 1])
    with pytest.raises(InputError, match=r"scorer\.rank=4: low rank goes by the factors of curvature=ekfac"):
        Influence(Explicit(), parameters=FEW, rank=4).fit(source, target, lab.context())


def test_what_has_not_converged_is_said_each_time(
    lab: Lab, pools: tuple[Pool, Pool, Pool], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """With the residual after one step of steepest descent, by hand."""
    source, target, _ = pools
    own, loops = fresh(lab, tmp_path), Loops.of(lab, FEW)
    scorer = Influence(ConjugateGradient(damping=1e-2, max_iterations=1, tolerance=1e-4), parameters=FEW)
    with caplog.at_level(logging.WARNING, "dsel"):
        scorer.fit(source, target, own.context())
        scorer.fit(source, target, own.context())
    assert count_artifacts(own)["preconditioned"] == 1
    query = loops.gradients(target, is_mean=True).mean(0)
    matrix = curvature_of(loops, source) + 1e-2 * np.eye(SIZE)
    rest = query - (query @ query) / (query @ matrix @ query) * matrix @ query
    residual = np.linalg.norm(rest) / np.linalg.norm(query)
    assert caplog.messages == 2 * [
        f"scorer influence: conjugate gradients stopped after 1 iterations at a residual of {residual:.2g} (1 of 1 vectors above the "
        "tolerance 0.0001); raise curvature.max_iterations or curvature.damping"
    ]


def test_a_smaller_sample_does_not_hang_on_the_order_of_the_pool(lab: Lab, pools: tuple[Pool, Pool, Pool]) -> None:
    _, target, probe = pools
    for curvature, names in ((Identity(), FEW), (Ekfac(), "attn")):
        scorer = Influence(curvature, parameters=names, sample=5, each=True)
        one, other = (scorer.fit(pool, target, lab.context())(probe.table) for pool in (lab.source, permuted(lab.source)[0]))
        assert_near(other, one, 1e-4)
    everything = Influence(Identity(), parameters=FEW, sample=len(lab.source), each=True).fit(lab.source, target, lab.context())
    few = Influence(Identity(), parameters=FEW, sample=40, each=True).fit(lab.source, target, lab.context())
    assert_near(few(probe.table), everything(probe.table), 0.15)  # tokens of the source, as the sample lets one expect


def test_shards_threads_and_copies_are_the_same(lab: Lab, pools: tuple[Pool, Pool, Pool]) -> None:
    source, target, _ = pools
    fitted = Influence(Ekfac(), each=True, rank=6).fit(source, target, lab.context())
    some = lab.source.take(np.arange(60))
    shards = map_pool(Local(2), pickle.loads(pickle.dumps(fitted)), some, [TOKENS], "score", 13)
    assert_near(shards, fitted(some.table), 1e-4)
    assert (fitted(lab.pool([""]).table) == 0).all()


def test_queries_without_a_gradient_are_errors(lab: Lab, pools: tuple[Pool, Pool, Pool]) -> None:
    source, scorer = pools[0], Influence(Identity(), tokens_per_batch=1)
    with pytest.raises(InputError, match=r"probe: row 1, id '1' \(2 such rows\): it has no token that is predicted; give longer queries"):
        scorer.fit(source, lab.pool(["The pilot", "", "The diver", ""]), lab.context())
    broken = lab.context().load(None)
    with torch.no_grad():
        broken.get_parameter("transformer.wpe.weight")[31] = float("nan")  # where only the last token of a full window stands
    long = lab.source.table["text"][int(lab.source.token_counts().argmax())].as_py()
    with pytest.raises(InputError, match=r"probe: row 2, id '2' \(1 such rows\): its gradient is not finite; train with a lower"):
        scorer.fit(source, lab.pool(["The pilot", "The diver", long]), lab.context(load=lambda _: broken))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checkpoint": "nobody"}, r"phases\.score: .*phase 'nobody'.*trained so far: pretrain"),
        ({"parameters": "nothing"}, r"scorer\.parameters=nothing: is found in no trained parameter's name \(16: transformer\.wte\.weight"),
        ({"parameters": "ln_", "curvature": Ekfac()}, r"curvature=ekfac: the model has no trained linear layer .*scorer\.parameters=ln_"),
        ({"curvature": Explicit()}, r"curvature=explicit: the model trains 23392 parameters"),
        ({"curvature": Explicit("fisher"), "parameters": FEW}, r"curvature\.kind='fisher': must be one of gauss_newton, hessian"),
        ({"sample": 0}, r"scorer\.sample=0: must be at least 1"),
        ({"rank": 0}, r"scorer\.rank=0: must be at least 1, or null"),
    ],
)
def test_wrong_options_are_named(lab: Lab, pools: tuple[Pool, Pool, Pool], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Influence(**{"curvature": Identity(), **options}).fit(*pools[:2], lab.context())
