"""The curvature of a training loss as products with it: nothing of the size of the matrix is made."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from dsel.error import InputError
from dsel.functional.alignment import by_jvp, plain_attention, trainable
from dsel.functional.blocks import IGNORE
from dsel.functional.token_losses import wide

if TYPE_CHECKING:
    from dsel.protocol import Losses

KINDS = ("gauss_newton", "hessian")
Vectors = dict[str, torch.Tensor]
"""By name of a trained parameter, of each of several vectors the part that belongs to it (vector, *shape)."""


@dataclass(frozen=True)
class TrainingLoss:
    """The mean loss over all predicted tokens of `batches`, plus half of `penalty` times the squared norm of all that is trained."""

    model: torch.nn.Module
    objective: Losses
    batches: Sequence[Any]
    penalty: float = 0.0

    @cached_property
    def num_tokens(self) -> int:
        """Predicted ones. Errors: there are none."""
        count = sum(int(self.objective.predicted(batch).sum()) for batch in self.batches)
        if not count:
            raise InputError("curvature: the training data hold no token that is predicted; give other data")
        return count

    def gradient(self) -> dict[str, torch.Tensor]:
        """By name of a parameter: next to 0 after training to the end."""
        names = trainable(self.model)
        found = {name: self.penalty * p.detach().clone() for name, p in names.items()}
        for batch in self.batches:
            loss = self.objective.token_losses(self.model, batch).sum() / self.num_tokens
            parts = torch.autograd.grad(loss, list(names.values()), allow_unused=True)
            for name, part in zip(names, parts, strict=True):
                if part is not None:
                    found[name] += part
        return found

    def curvature_times(self, vectors: Mapping[str, torch.Tensor], kind: str, wanted: Collection[str] | None = None) -> Vectors:
        """The product of the curvature with vectors, by the parameters `wanted` (None: those of the vectors). "hessian" is that of the
        loss, "gauss_newton" leaves out how the model's outputs bend, and is never negative (arXiv 1412.1193)."""
        if kind not in KINDS:
            raise InputError(f"curvature.kind={kind!r}: must be one of {', '.join(KINDS)}")
        wanted = list(vectors if wanted is None else wanted)
        count = len(next(iter(vectors.values())))
        parameters = trainable(self.model, wanted)
        found = {name: p.detach().new_zeros(count, *p.shape) for name, p in parameters.items()}
        times = _hessian_times if kind == "hessian" else _gauss_newton_times
        for batch in self.batches:
            times(self.model, self.objective, batch, vectors, found)
        for name in found:
            found[name] /= self.num_tokens
            if self.penalty and name in vectors:
                found[name] += self.penalty * vectors[name]
        return found


def _hessian_times(model: torch.nn.Module, objective: Losses, batch: Any, vectors: Mapping[str, torch.Tensor], out: Vectors) -> None:
    """Add that of a batch's summed loss: the gradient of <gradient, vector>."""
    given, parameters = trainable(model, vectors), trainable(model, out)
    with plain_attention():
        loss = objective.token_losses(model, batch).sum()
        own = torch.autograd.grad(loss, list(given.values()), create_graph=True, allow_unused=True)
        bent = {name: g for name, g in zip(given, own, strict=True) if g is not None and g.requires_grad}
        for number in range(len(next(iter(vectors.values())))):
            if bent:
                weights = [vectors[name][number] for name in bent]
                _add(out, number, torch.autograd.grad(list(bent.values()), list(parameters.values()), weights, True, allow_unused=True))


def _gauss_newton_times(model: torch.nn.Module, objective: Losses, batch: Any, vectors: Mapping[str, torch.Tensor], out: Vectors) -> None:
    """Add J^T (curvature of the loss by the outputs) J vector, J the derivative of the model's outputs by its parameters."""
    parameters, labels = trainable(model, out), torch.empty(0)

    def outputs_of(some: torch.nn.Module) -> torch.Tensor:
        nonlocal labels
        outputs, labels = objective.outputs(some, batch)
        return outputs

    for number in range(len(next(iter(vectors.values())))):
        outputs, slopes = by_jvp(model, outputs_of, {name: value[number] for name, value in vectors.items()})
        turned = outputs_curvature_times(outputs.detach(), slopes, labels)
        _add(out, number, torch.autograd.grad(outputs, list(parameters.values()), turned, allow_unused=True))


def outputs_curvature_times(outputs: torch.Tensor, slopes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The curvature of the summed loss by the outputs (..., class), times `slopes`: diag(p) - p p^T, p their softmax; 0 where there is no
    label (...). Of numbers it is 1."""
    if labels.is_floating_point():
        return slopes
    p = wide(outputs).softmax(-1)
    found = p * slopes - p * (p * slopes).sum(-1, keepdim=True)
    return (found * (labels != IGNORE)[..., None]).to(outputs.dtype)


def _add(out: Vectors, number: int, parts: Sequence[torch.Tensor | None]) -> None:
    for value, part in zip(out.values(), parts, strict=True):
        if part is not None:
            value[number] += part.detach()


def dot(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """<vector, vector> (vector,), each with its own."""
    return torch.stack([(value * other[name]).flatten(1).sum(1) for name, value in one.items()]).sum(0)


def scaled(vectors: Mapping[str, torch.Tensor], factors: torch.Tensor) -> Vectors:
    """Each vector times its factor (vector,)."""
    return {name: value * factors.view(-1, *[1] * (value.ndim - 1)).to(value) for name, value in vectors.items()}


def added(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor], factors: torch.Tensor | None = None) -> Vectors:
    """one + factor (vector,) * other."""
    more = other if factors is None else scaled(other, factors)
    return {name: value + more[name] for name, value in one.items()}
