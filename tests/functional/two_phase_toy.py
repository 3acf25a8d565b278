"""A two-layer model that is pretrained with one head and fine-tuned with another, small enough to be trained to the last digit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from dsel.functional.alignment import _load_derivatives
from dsel.functional.curvature import TrainingLoss
from dsel.functional.token_losses import token_losses


class Points(NamedTuple):
    """Inputs (row, dim) and labels (row, 1), of which `weights` (row, 1) say how much each counts."""

    inputs: torch.Tensor
    labels: torch.Tensor


class Pointwise:
    """Losses of a model of vectors."""

    def token_losses(self, model: torch.nn.Module, batch: Points, smoothing: float = 0.0) -> torch.Tensor:
        return token_losses(*self.outputs(model, batch), smoothing)

    def outputs(self, model: torch.nn.Module, batch: Points) -> tuple[torch.Tensor, torch.Tensor]:
        return model(batch.inputs)[:, None], batch.labels

    def predicted(self, batch: Points) -> torch.Tensor:
        return batch.labels != -100 if not batch.labels.is_floating_point() else torch.ones_like(batch.labels, dtype=torch.bool)


class TwoLayer(torch.nn.Module):
    """An embedding tanh(x W^T + b) and a head."""

    def __init__(self, dim: int, hidden: int, num_outputs: int, head: str) -> None:
        super().__init__()
        self.embedding = torch.nn.Linear(dim, hidden)
        self.add_module(head, torch.nn.Linear(hidden, num_outputs))
        self.head = head

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = getattr(self, self.head)(torch.tanh(self.embedding(inputs)))
        return found


def optimum(model: torch.nn.Module, objective: Pointwise, batch: Points, weights: torch.Tensor, penalty: float, proximity: float = 0.0,
            anchor: dict[str, torch.Tensor] | None = None) -> None:  # fmt: skip
    """Newton's method with a line search, on the weighted mean loss + penalty/2 |all|^2 + proximity |those of `anchor` - anchor|^2."""
    _load_derivatives()
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    shapes = [p.shape for p in parameters.values()]

    def put(flat: torch.Tensor) -> dict[str, torch.Tensor]:
        parts = torch.split(flat, [shape.numel() for shape in shapes])
        return {name: part.view(shape) for name, part, shape in zip(parameters, parts, shapes, strict=True)}

    def total(flat: torch.Tensor) -> torch.Tensor:
        values = put(flat)

        class Bound(torch.nn.Module):
            def forward(self, inputs: torch.Tensor) -> torch.Tensor:
                return torch.func.functional_call(model, values, (inputs,))

        loss = (objective.token_losses(Bound(), batch)[:, 0] * weights).sum() / len(weights) + 0.5 * penalty * (flat**2).sum()
        return loss + sum(proximity * ((values[name] - at) ** 2).sum() for name, at in (anchor or {}).items())

    flat = torch.cat([p.detach().flatten() for p in parameters.values()])
    for _ in range(200):
        slope = torch.func.grad(total)(flat)
        if slope.norm() < 1e-14:
            break
        values, basis = torch.linalg.eigh(torch.func.hessian(total)(flat))
        step = basis @ ((basis.T @ slope) / values.abs().clamp_min(1e-6))
        size, here = 1.0, total(flat)
        while total(flat - size * step) > here + 1e-16 and size > 1e-6:
            size /= 2
        flat = flat - size * step
    with torch.no_grad():
        for name, value in put(flat).items():
            parameters[name].copy_(value)


@dataclass(frozen=True)
class Toy:
    """Data of both phases, and what trains on them."""

    before: Points
    after: Points
    query: Points
    penalty: float = 0.05
    hidden: int = 3

    @staticmethod
    def make(seed: int = 0, is_number: bool = False) -> Toy:
        generator = torch.Generator().manual_seed(seed)

        def draw(count: int, num_classes: int) -> Points:
            inputs = torch.randn(count, 3, generator=generator, dtype=torch.float64)
            if is_number:
                return Points(inputs, torch.tanh(inputs.sum(1, keepdim=True)) + 0.3 * torch.randn(count, 1, generator=generator).double())
            return Points(inputs, torch.randint(num_classes, (count, 1), generator=generator))

        return Toy(draw(20, 3), draw(12, 2), draw(2, 2))

    def pretrained(self, weights: torch.Tensor | None = None, start: TwoLayer | None = None) -> TwoLayer:
        outputs = 1 if self.before.labels.is_floating_point() else 3
        model = _copy(start) if start else _made(3, self.hidden, outputs, "first", 1)
        optimum(model, Pointwise(), self.before, torch.ones(20).double() if weights is None else weights, self.penalty)
        return model

    def finetuned(self, before: TwoLayer, proximity: float | None, weights: torch.Tensor | None = None,
                  start: TwoLayer | None = None) -> TwoLayer:  # fmt: skip
        """With the embedding fixed (proximity None) or updated."""
        outputs = 1 if self.after.labels.is_floating_point() else 2
        model = _copy(start) if start else _made(3, self.hidden, outputs, "second", 2)
        anchor = {f"embedding.{name}": p.detach().clone() for name, p in before.embedding.named_parameters()}
        with torch.no_grad():
            for name, p in model.named_parameters():
                if name in anchor and (start is None or proximity is None):
                    p.copy_(anchor[name])
        model.embedding.requires_grad_(proximity is not None)
        weights = torch.ones(12).double() if weights is None else weights
        optimum(model, Pointwise(), self.after, weights, self.penalty, proximity or 0.0, anchor if proximity else None)
        return model

    def losses(self, before: TwoLayer, after: TwoLayer) -> tuple[TrainingLoss, TrainingLoss]:
        return (
            TrainingLoss(before, Pointwise(), [self.before], self.penalty),
            TrainingLoss(after, Pointwise(), [self.after], self.penalty),
        )

    def query_losses(self, model: TwoLayer) -> torch.Tensor:
        with torch.no_grad():
            return Pointwise().token_losses(model, self.query)[:, 0]


def _made(dim: int, hidden: int, num_outputs: int, head: str, seed: int) -> TwoLayer:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TwoLayer(dim, hidden, num_outputs, head).double()


def _copy(model: TwoLayer) -> TwoLayer:
    copied = TwoLayer(
        model.embedding.in_features, model.embedding.out_features, getattr(model, model.head).out_features, model.head
    ).double()
    copied.load_state_dict(model.state_dict())
    return copied
