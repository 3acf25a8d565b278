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
from dsel.functional.low_rank import Bases, LowRank
from dsel.functional.output_gradients import to_outputs
from dsel.functional.tracked import only_trained

if TYPE_CHECKING:
    from dsel.protocol import Losses

MOST_VALUES = 1 << 24  # of gradients at a time


@dataclass(frozen=True)
class GradientProducts:
    """Vectors by parameter, whole (vector, *shape) or at low rank."""

    vectors: Mapping[str, torch.Tensor | LowRank]

    def __call__(self, model: torch.nn.Module, objective: Losses, batch: Any) -> torch.Tensor:
        """<gradient of an example's summed loss, vector> (example, vector), of the batch's examples. The model's parameters are those of
        the vectors, which must be trained. Errors: a layer whose part in an example cannot be told (see `Tape`)."""
        with torch.enable_grad(), only_trained(model, self.vectors), Tape(model) as tape:
            tape.begin(len(objective.predicted(batch)))
            tape.backward(*to_outputs(objective, model, batch))
        with torch.no_grad():
            found = [self._products(name, call, own) for name, uses in tape.batches[0].by_parameter(None).items() for call, own in uses]
            return torch.stack(found).sum(0)

    def vector(self, number: int) -> dict[str, torch.Tensor]:
        """One of the vectors, by parameter."""
        found: dict[str, torch.Tensor] = {}
        for name, value in self.vectors.items():
            found |= value.bases.whole(value.core[number], name) if isinstance(value, LowRank) else {name: value[number]}
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
        tape.backward(*to_outputs(objective, model, batch))
    with torch.no_grad():
        found = dict(tape.example_gradients())
    count = len(objective.predicted(batch))
    missing = {name: p for name, p in trainable(model, names).items() if name not in found}
    return found | {name: torch.zeros_like(p).expand(count, *p.shape) for name, p in missing.items()}


def projected_gradients(model: torch.nn.Module, objective: Losses, batch: Any, bases: Mapping[str, Bases]) -> dict[str, torch.Tensor]:
    """The gradient of each example's summed loss along these directions of layers, by their weights (example, rows, columns); the gradient
    itself is not made."""
    with torch.enable_grad(), only_trained(model, bases), Tape(model) as tape:
        tape.begin(len(objective.predicted(batch)))
        tape.backward(*to_outputs(objective, model, batch))
    found: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for name, uses in tape.batches[0].by_parameter(None).items():
            parts = [replace(call, names={own: name}).parts()[own] for call, own in uses]
            found[name] = torch.stack([bases[name].project(part) for part in parts if isinstance(part, Factors)]).sum(0)
    return found
