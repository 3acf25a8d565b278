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
    """Matrices (vector, row, column) as rows (row, rank) times `core` (vector, rank, rank) times columns (column, rank)^T, the rows and
    columns the same for all vectors."""

    rows: torch.Tensor
    core: torch.Tensor
    columns: torch.Tensor

    def whole(self, number: int) -> torch.Tensor:
        """One of the matrices (row, column)."""
        return self.rows @ self.core[number] @ self.columns.T


@dataclass(frozen=True)
class Bases:
    """Of a vector of parameters seen as matrices, the metric in which an approximation is to be close: roots of the mean squares of what
    its rows and columns are multiplied with, (row, row) and (column, column), and their inverses."""

    rows: torch.Tensor
    rows_inverse: torch.Tensor
    columns: torch.Tensor
    columns_inverse: torch.Tensor


def low_rank(matrices: torch.Tensor, bases: Bases, rank: int) -> LowRank:
    """The matrices (vector, row, column) by the `rank` rows and columns in which most of all of them lies (a truncated higher-order SVD),
    measured as the data see it: what few tokens reach counts little."""
    seen = bases.rows @ matrices @ bases.columns
    rows = _leading(torch.einsum("vrc,vsc->rs", seen, seen), rank)
    columns = _leading(torch.einsum("vrc,vrd->cd", seen, seen), rank)
    return LowRank(bases.rows_inverse @ rows, rows.T @ seen @ columns, bases.columns_inverse @ columns)


def _leading(square: torch.Tensor, rank: int) -> torch.Tensor:
    _, vectors = torch.linalg.eigh(square.double())
    leading: torch.Tensor = vectors[:, -rank:].flip(1)
    return leading.to(square.dtype)


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
        return {name: value.whole(number) if isinstance(value, LowRank) else value[number] for name, value in self.vectors.items()}

    def _products(self, name: str, call: Call, own: str) -> torch.Tensor:
        vectors, part = self.vectors[name], replace(call, names={own: name}).parts().get(own)
        if isinstance(vectors, LowRank):
            assert isinstance(part, Factors), "only matrices have a low rank"
            small = (part.rows @ vectors.rows).mT @ (part.columns @ vectors.columns)
            return small.flatten(1) @ vectors.core.flatten(1).T
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
