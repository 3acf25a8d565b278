"""Inner products of examples' gradients with some fixed vectors, from layers' inputs and the gradients at their outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from dsel.functional.alignment import trainable
from dsel.functional.curvature import Vectors
from dsel.functional.ghost import Tape
from dsel.functional.ghost_calls import Call
from dsel.functional.ghost_factors import Factors
from dsel.functional.tracked import only_trained

if TYPE_CHECKING:
    from dsel.protocol import Losses

MOST_VALUES = 1 << 24  # of gradients at a time


@dataclass(frozen=True)
class LowRank:
    """Matrices (vector, out, in) of linear layers as `outputs` (out, rank) times `core` (vector, rank, rank) times `inputs` (in, rank)^T,
    the first and the last the same for all vectors. Where the layer has a bias, `constant` (rank,) is the row of the input that is always
    1."""

    outputs: torch.Tensor
    core: torch.Tensor
    inputs: torch.Tensor
    constant: torch.Tensor | None
    bias: str | None
    is_transposed: bool

    def whole(self, number: int, weight: str) -> dict[str, torch.Tensor]:
        """One of the vectors, as the model holds weight and bias."""
        found = self.outputs @ self.core[number] @ self.inputs.T
        parts = {weight: found.T if self.is_transposed else found}
        if self.bias is not None and self.constant is not None:
            parts[self.bias] = self.outputs @ self.core[number] @ self.constant
        return parts

    def products(self, part: Factors) -> torch.Tensor:
        """With the gradients of examples (example, vector), those by the bias included."""
        given, at_output = (part.rows, part.columns) if self.is_transposed else (part.columns, part.rows)
        inputs = given @ self.inputs if self.constant is None else given @ self.inputs + self.constant
        return ((at_output @ self.outputs).mT @ inputs).flatten(1) @ self.core.flatten(1).T


@dataclass(frozen=True)
class GradientProducts:
    """Vectors by parameter, whole (vector, *shape) or at low rank."""

    vectors: Mapping[str, torch.Tensor | LowRank]

    def __call__(self, model: torch.nn.Module, objective: Losses, batch: Any) -> torch.Tensor:
        """<gradient of an example's summed loss, vector> (example, vector), of the batch's examples. The model's parameters are those of
        the vectors, which must be trained. Errors: a layer whose part in an example cannot be told (see `Tape`)."""
        with torch.enable_grad(), only_trained(model, self.vectors), Tape(model) as tape:
            tape.begin(len(objective.predicted(batch)))
            tape.backward(objective.token_losses(model, batch).sum())
        with torch.no_grad():
            found = [self._products(name, call, own) for name, uses in tape.batches[0].by_parameter(None).items() for call, own in uses]
            return torch.stack(found).sum(0)

    def vector(self, number: int) -> dict[str, torch.Tensor]:
        """One of the vectors, by parameter."""
        found: dict[str, torch.Tensor] = {}
        for name, value in self.vectors.items():
            found |= value.whole(number, name) if isinstance(value, LowRank) else {name: value[number]}
        return found

    def _products(self, name: str, call: Call, own: str) -> torch.Tensor:
        vectors, part = self.vectors[name], replace(call, names={own: name}).parts().get(own)
        if isinstance(vectors, LowRank):
            assert isinstance(part, Factors), "a linear layer's weight"
            return vectors.products(part)
        if not isinstance(part, Factors):
            each = part.sum(1) if part is not None else call.per_example(own)
            return each.flatten(1) @ vectors.flatten(1).T
        if not part.is_dense:
            return torch.stack([(part.columns * vector[part.rows]).sum((1, 2)) for vector in vectors], 1)
        if len(vectors) == 1:
            return ((part.rows @ vectors[0]) * part.columns).sum((1, 2))[:, None]
        return _by_matrices(part, vectors)


def _by_matrices(part: Factors, vectors: torch.Tensor) -> torch.Tensor:
    """By each example's matrix, some examples at a time."""
    some = max(1, MOST_VALUES // vectors[0].numel())
    flat = vectors.flatten(1).T
    return torch.cat([part.examples(slice(first, first + some)).each().flatten(1) @ flat for first in range(0, len(part.rows), some)])


def example_gradients(model: torch.nn.Module, objective: Losses, batch: Any, names: list[str]) -> Vectors:
    """The gradient of each example's summed loss by the parameters `names` (example, *shape)."""
    with torch.enable_grad(), only_trained(model, names), Tape(model) as tape:
        tape.begin(len(objective.predicted(batch)))
        tape.backward(objective.token_losses(model, batch).sum())
    with torch.no_grad():
        found = dict(tape.example_gradients())
    count = len(objective.predicted(batch))
    missing = {name: p for name, p in trainable(model, names).items() if name not in found}
    return found | {name: torch.zeros_like(p).expand(count, *p.shape) for name, p in missing.items()}
