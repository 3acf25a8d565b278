"""Both scenarios against retraining of both phases, and against formulas written out."""

from __future__ import annotations

import pytest
import torch
from two_phase_toy import Points, Pointwise, Toy, TwoLayer

from dsel.error import InputError
from dsel.functional.curvature import TrainingLoss
from dsel.functional.gradient_products import GradientProducts, example_gradients
from dsel.functional.inverse_curvature import ByConjugateGradient, Dense
from dsel.functional.tracked import only_trained
from dsel.functional.two_phase import PreconditionedQueries, TwoPhases

EPSILON = 1e-5


def preconditioned(toy: Toy, before: TwoLayer, after: TwoLayer, proximity: float | None, method: str = "dense") -> PreconditionedQueries:
    phases = TwoPhases(*toy.losses(before, after), proximity or 0.0)
    queries = example_gradients(after, Pointwise(), toy.query, [name for name, _ in after.named_parameters()])
    make = (
        (lambda loss, damping: Dense(loss, damping, "hessian"))
        if method == "dense"
        else (lambda loss, damping: ByConjugateGradient(loss, damping, "hessian", 500, 1e-12))
    )
    first = make(phases.pretraining, dict.fromkeys(dict(before.named_parameters()), 0.0))
    return phases.precondition(queries, make(phases.finetuning, phases.finetuning_damping(0.0)), first)


def scores(model: TwoLayer, batch: Points, vectors: dict[str, torch.Tensor]) -> torch.Tensor:
    return GradientProducts(vectors)(model, Pointwise(), batch)


@pytest.mark.parametrize("method", ["dense", "conjugate_gradient"])
@pytest.mark.parametrize("proximity", [None, 0.05, 1.0])
@pytest.mark.parametrize("is_number", [False, True])
def test_pretraining_influence_is_that_of_retraining_both_phases(proximity: float | None, is_number: bool, method: str) -> None:
    toy = Toy.make(is_number=is_number)
    before = toy.pretrained()
    after = toy.finetuned(before, proximity)
    found = scores(before, toy.before, preconditioned(toy, before, after, proximity, method).pretraining)
    for example in (0, 7, 19):
        sides = []
        for sign in (1, -1):
            weights = torch.ones(20).double()
            weights[example] += sign * EPSILON * 20
            again = toy.pretrained(weights, before)
            sides.append(toy.query_losses(toy.finetuned(again, proximity, start=after)))
        upweighting = (sides[0] - sides[1]) / (2 * EPSILON)  # by epsilon, of a mean: what removing adds is its negative over n
        torch.testing.assert_close(found[example], -upweighting, rtol=1e-6, atol=1e-6)
    assert found.abs().max() > 1e-3


@pytest.mark.parametrize("proximity", [None, 0.3])
def test_finetuning_influence_is_that_of_retraining(proximity: float | None) -> None:
    toy = Toy.make(1)
    before = toy.pretrained()
    after = toy.finetuned(before, proximity)
    found = scores(after, toy.after, preconditioned(toy, before, after, proximity).finetuning)
    sides = []
    for sign in (1, -1):
        weights = torch.ones(12).double()
        weights[4] += sign * EPSILON * 12
        sides.append(toy.query_losses(toy.finetuned(before, proximity, weights, after)))
    torch.testing.assert_close(found[4], -(sides[0] - sides[1]) / (2 * EPSILON), rtol=1e-6, atol=1e-6)


def test_leaving_an_example_out_changes_the_loss_by_its_score_over_n() -> None:
    toy = Toy.make(2)
    before = toy.pretrained()
    after = toy.finetuned(before, None)
    found = scores(before, toy.before, preconditioned(toy, before, after, None).pretraining)[:, 0]
    truth = []
    for example in range(20):
        weights = torch.ones(20).double()
        weights[example] = 0
        again = toy.pretrained(weights, before)
        truth.append(toy.query_losses(toy.finetuned(again, None, start=after))[0] - toy.query_losses(after)[0])
    assert torch.corrcoef(torch.stack([found / 20, torch.stack(truth)]))[0, 1] > 0.9  # a twentieth of the data is no small step


def test_dense_formulas_of_both_scenarios() -> None:
    """arXiv 2007.09081 as the notes write it, with Hessians by torch.func."""
    toy = Toy.make(3)
    before = toy.pretrained()
    for proximity in (None, 0.2):
        after = toy.finetuned(before, proximity)
        found = preconditioned(toy, before, after, proximity).pretraining
        names = ["embedding.weight", "embedding.bias"]
        own = ["second.weight", "second.bias"]
        hessian = _hessian(toy.losses(before, after)[1], names + own)
        gradient = torch.cat([example_gradients(after, Pointwise(), toy.query, names + own)[n].flatten(1) for n in names + own], 1)
        w = sum(dict(after.named_parameters())[name].numel() for name in names)
        theta = slice(w, None)
        if proximity is None:
            v = gradient[:, :w] - (hessian[:w, theta] @ torch.linalg.solve(hessian[theta, theta], gradient[:, theta].T)).T
        else:
            full = hessian + 2 * proximity * torch.diag((torch.arange(len(hessian)) < w).double())
            v = 2 * proximity * torch.linalg.solve(full, gradient.T)[:w].T
        joint = _hessian(toy.losses(before, after)[0], [*names, "first.weight", "first.bias"])
        want = torch.linalg.solve(joint, torch.cat([v, torch.zeros(2, len(joint) - w).double()], 1).T).T
        got = torch.cat([found[name].flatten(1) for name in [*names, "first.weight", "first.bias"]], 1)
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def _hessian(loss: TrainingLoss, names: list[str]) -> torch.Tensor:
    parameters = dict(loss.model.named_parameters())
    flat = torch.cat([parameters[name].detach().flatten() for name in names])

    def total(values: torch.Tensor) -> torch.Tensor:
        parts = torch.split(values, [parameters[name].numel() for name in names])
        given = {name: part.view(parameters[name].shape) for name, part in zip(names, parts, strict=True)}
        (batch,) = loss.batches
        outputs = torch.func.functional_call(loss.model, given, (batch.inputs,))
        mean = torch.nn.functional.cross_entropy(outputs, batch.labels[:, 0])
        return mean + 0.5 * loss.penalty * (values**2).sum()

    return torch.func.hessian(total)(flat)


def test_a_large_proximity_is_a_fixed_embedding_and_none_forgets() -> None:
    toy = Toy.make(4)
    before = toy.pretrained()
    fixed = toy.finetuned(before, None)
    at_fixed = scores(before, toy.before, preconditioned(toy, before, fixed, None).pretraining)
    size = at_fixed.abs().max()
    strong = toy.finetuned(before, 1e5)
    near = scores(before, toy.before, preconditioned(toy, before, strong, 1e5).pretraining)
    torch.testing.assert_close(near, at_fixed, rtol=0, atol=float(1e-3 * size))
    weak = toy.finetuned(before, 1e-7)
    assert scores(before, toy.before, preconditioned(toy, before, weak, 1e-7).pretraining).abs().max() < 1e-3 * size
    with pytest.raises(InputError, match=r"scorer.proximity=0"):
        preconditioned(toy, before, toy.finetuned(before, 1e-7), 0.0)


def test_parameters_are_trained_as_before() -> None:
    toy = Toy.make(5)
    before = toy.pretrained()
    after = toy.finetuned(before, None)
    preconditioned(toy, before, after, None)
    assert [name for name, p in after.named_parameters() if p.requires_grad] == ["second.weight", "second.bias"]
    with only_trained(after, ["embedding.bias"]):
        assert [name for name, p in after.named_parameters() if p.requires_grad] == ["embedding.bias"]
