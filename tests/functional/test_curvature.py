"""Products with curvature against matrices written out, and their inverses."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call, hessian, jacrev
from two_phase_toy import Points, Pointwise, Toy

from dsel.error import InputError
from dsel.functional.alignment import _load_derivatives
from dsel.functional.curvature import TrainingLoss, Vectors, outputs_curvature_times
from dsel.functional.inverse_curvature import ByConjugateGradient, Dense, Lissa

_load_derivatives()


@pytest.fixture(scope="module", params=[False, True], ids=["classes", "numbers"])
def loss(request: pytest.FixtureRequest) -> TrainingLoss:
    toy = Toy.make(3, request.param)
    model = toy.pretrained()
    batch = toy.before
    parts = [Points(batch.inputs[:7], batch.labels[:7]), Points(batch.inputs[7:], batch.labels[7:])]
    return TrainingLoss(model, Pointwise(), parts, 0.05)


def split(loss: TrainingLoss, flat: torch.Tensor) -> Vectors:
    named = dict(loss.model.named_parameters())
    parts = torch.split(flat, [p.numel() for p in named.values()], -1)
    return {name: part.reshape(*part.shape[:-1], *p.shape) for (name, p), part in zip(named.items(), parts, strict=True)}


def joined(vectors: Vectors) -> torch.Tensor:
    return torch.cat([value.flatten(1) for value in vectors.values()], 1)


def matrix(loss: TrainingLoss, kind: str) -> torch.Tensor:
    """By torch.func."""
    flat = torch.cat([p.detach().flatten() for p in loss.model.parameters()])
    batch = Points(*(torch.cat(parts) for parts in zip(*loss.batches, strict=True)))

    def outputs(values: torch.Tensor) -> torch.Tensor:
        return functional_call(loss.model, split(loss, values), (batch.inputs,))

    def total(values: torch.Tensor) -> torch.Tensor:
        found = outputs(values)
        if batch.labels.is_floating_point():
            return 0.5 * (found - batch.labels).square().mean()
        return torch.nn.functional.cross_entropy(found, batch.labels[:, 0])

    penalty = 0.05 * torch.eye(len(flat), dtype=torch.float64)
    if kind == "hessian":
        return hessian(total)(flat) + penalty
    derivative, p = jacrev(outputs)(flat), outputs(flat).softmax(-1)
    bend = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    bend = torch.ones(len(p), 1, 1).double() if batch.labels.is_floating_point() else bend
    return torch.einsum("ncp,ncd,ndq->pq", derivative, bend, derivative) / len(p) + penalty


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
def test_products_are_those_of_the_matrix(loss: TrainingLoss, kind: str) -> None:
    dense = matrix(loss, kind)
    vectors = torch.randn(3, len(dense), generator=torch.Generator().manual_seed(0)).double()
    found = loss.curvature_times(split(loss, vectors), kind)
    torch.testing.assert_close(joined(found), vectors @ dense, rtol=1e-10, atol=1e-12)
    some = {name: value for name, value in split(loss, vectors).items() if "first" in name}
    part = loss.curvature_times(some, kind, ["embedding.weight"])["embedding.weight"]
    width = loss.model.embedding.weight.numel()  # type: ignore[union-attr, operator]
    rows = slice(width + 3, None)
    torch.testing.assert_close(part.flatten(1), vectors[:, rows] @ dense[rows, :width], rtol=1e-10, atol=1e-12)


def test_the_gradient_is_zero_at_the_optimum(loss: TrainingLoss) -> None:
    assert all(part.abs().max() < 1e-10 for part in loss.gradient().values())


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
def test_inverses_agree(loss: TrainingLoss, kind: str) -> None:
    damping = dict.fromkeys(dict(loss.model.named_parameters()), 0.1)
    dense = matrix(loss, kind) + 0.1 * torch.eye(len(matrix(loss, kind)), dtype=torch.float64)
    vectors = torch.randn(3, len(dense), generator=torch.Generator().manual_seed(0)).double()
    want = torch.linalg.solve(dense, vectors.T).T
    exact = Dense(loss, damping, kind)
    torch.testing.assert_close(joined(exact.solve(split(loss, vectors))), want, rtol=1e-9, atol=1e-12)
    steps = ByConjugateGradient(loss, damping, kind, 200, 1e-12)
    torch.testing.assert_close(joined(steps.solve(split(loss, vectors))), want, rtol=1e-8, atol=1e-10)
    assert steps.reports[0].converged
    helped = ByConjugateGradient(loss, damping, kind, 200, 1e-12, exact.solve)
    torch.testing.assert_close(joined(helped.solve(split(loss, vectors))), want, rtol=1e-8, atol=1e-10)
    assert helped.reports[0].iterations < 4 < steps.reports[0].iterations
    series = Lissa(loss, damping, 0, "gauss_newton" if kind == "gauss_newton" else kind, 400, 2)
    assert torch.corrcoef(torch.stack([joined(series.solve(split(loss, vectors))).flatten(), want.flatten()]))[0, 1] > 0.95


def test_vectors_do_not_change_each_others_solutions(loss: TrainingLoss) -> None:
    damping = dict.fromkeys(dict(loss.model.named_parameters()), 0.1)
    vectors = split(
        loss, torch.randn(3, sum(p.numel() for p in loss.model.parameters()), generator=torch.Generator().manual_seed(1)).double()
    )
    together = ByConjugateGradient(loss, damping, tolerance=1e-6).solve(vectors)
    alone = ByConjugateGradient(loss, damping, tolerance=1e-6).solve({name: value[:1] for name, value in vectors.items()})
    torch.testing.assert_close(joined(together)[:1], joined(alone), rtol=1e-12, atol=1e-14)


def test_what_does_not_converge_says_by_how_much(loss: TrainingLoss, caplog: pytest.LogCaptureFixture) -> None:
    damping = dict.fromkeys(dict(loss.model.named_parameters()), 1e-9)
    vectors = split(loss, torch.ones(1, sum(p.numel() for p in loss.model.parameters())).double())
    steps = ByConjugateGradient(loss, damping, max_iterations=2, tolerance=1e-8)
    solution = steps.solve(vectors)
    (report,) = steps.reports
    rest = joined(vectors) - joined(loss.curvature_times(solution, "gauss_newton")) - 1e-9 * joined(solution)
    assert report.residuals[0] == pytest.approx(float(rest.norm() / joined(vectors).norm()), rel=1e-9)
    assert not report.converged
    report.warn("phases.attribute")
    assert f"residual of {report.residuals[0]:.2g}" in caplog.text
    assert "curvature.max_iterations" in caplog.text


def test_negative_curvature_is_an_error() -> None:
    toy = Toy.make(0)
    model = toy.pretrained()
    loss = TrainingLoss(model, Pointwise(), [toy.before], -1.0)
    damping = dict.fromkeys(dict(model.named_parameters()), 0.0)
    with pytest.raises(InputError, match=r"least eigenvalue is -.*raise curvature.damping"):
        Dense(loss, damping)
    vectors = split(loss, torch.ones(1, sum(p.numel() for p in model.parameters())).double())
    with pytest.raises(InputError, match=r"along a direction is -.*gauss_newton"):
        ByConjugateGradient(loss, damping, "hessian").solve(vectors)


def test_a_series_that_runs_away_and_too_large_a_matrix_are_errors(loss: TrainingLoss) -> None:
    damping = dict.fromkeys(dict(loss.model.named_parameters()), 1.0)
    vectors = split(loss, torch.ones(1, sum(p.numel() for p in loss.model.parameters())).double())
    with pytest.raises(InputError, match=r"curvature.scale=0.1"):
        Lissa(loss, damping, 0, scale=0.1).solve(vectors)
    wide = TrainingLoss(torch.nn.Linear(100, 100), Pointwise(), [])
    with pytest.raises(InputError, match="trains 10100 parameters"):
        Dense(wide, {"weight": 0.0, "bias": 0.0})


def test_places_without_a_label_do_not_bend() -> None:
    outputs, slopes = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    labels = torch.tensor([[1, -100, 2], [-100, 0, 4]])
    found = outputs_curvature_times(outputs, slopes, labels)
    assert (found[labels == -100] == 0).all()
    assert found[labels != -100].abs().min() > 0
    with pytest.raises(InputError, match="no token"):
        TrainingLoss(torch.nn.Linear(1, 1), Pointwise(), [Points(torch.zeros(1, 1), torch.tensor([[-100]]))]).num_tokens  # noqa: B018
