"""What attribution by gradients is made of: losses of pools as curvatures know them, gradients of queries, and fitted scores."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.error import InputError
from dsel.pool import ID, ROW, Pool

if TYPE_CHECKING:
    import torch

    from dsel.functional.curvature import TrainingLoss, Vectors
    from dsel.functional.gradient_products import GradientProducts
    from dsel.functional.low_rank import Bases
    from dsel.functional.projection import Projection
    from dsel.protocol import Objective

Values = npt.NDArray[np.float32]
Rows = Callable[["torch.nn.Module", Any], "torch.Tensor"]
"""From a model and a batch to what each of its rows has (row, column)."""


@dataclass(frozen=True)
class Reading:
    """How units become batches."""

    objective: Objective
    context: int
    tokens_per_batch: int = 2048

    def rows(self, model: torch.nn.Module, table: pa.Table) -> Iterator[tuple[npt.NDArray[np.int64], Any]]:
        """The unit of each row, and the batch, where the model is."""
        device = next(model.parameters()).device
        for unit, batch in self.objective.rows(table, self.context, self.tokens_per_batch):
            yield unit, batch.to(device)

    def training_loss(self, model: torch.nn.Module, pool: Pool) -> TrainingLoss:
        """The mean token loss of the pool's units."""
        from dsel.functional.curvature import TrainingLoss

        return TrainingLoss(model, self.objective, [batch for _, batch in self.rows(model, pool.table)])

    def gradients(self, model: torch.nn.Module, pool: Pool, names: list[str]) -> Vectors:
        """Of each unit's mean token loss, by these parameters (unit, *shape). Errors: a unit without a token to predict; a gradient that is
        not finite."""
        from dsel.functional.gradient_products import example_gradients

        parameters = dict(model.named_parameters())
        found = {name: parameters[name].new_zeros(len(pool), *parameters[name].shape, requires_grad=False) for name in names}
        return self._mean_gradients(model, pool, found, lambda batch: example_gradients(model, self.objective, batch, names))

    def projected_gradients(self, model: torch.nn.Module, pool: Pool, bases: Mapping[str, Bases]) -> Vectors:
        """The same along directions of linear layers, by their weights (unit, rows, columns)."""
        from dsel.functional.gradient_products import projected_gradients

        found = {name: own.outputs.new_zeros(len(pool), own.outputs.shape[1], own.inputs.shape[1]) for name, own in bases.items()}
        return self._mean_gradients(model, pool, found, lambda batch: projected_gradients(model, self.objective, batch, bases))

    def _mean_gradients(self, model: torch.nn.Module, pool: Pool, found: Vectors, of_rows: Callable[[Any], Vectors]) -> Vectors:
        """Into `found` (unit, ...), from gradients of the rows of a batch."""
        import torch

        counts = torch.zeros(len(pool), device=next(model.parameters()).device)
        for unit, batch in self.rows(model, pool.table):
            which = torch.from_numpy(unit).to(counts.device)
            counts.index_add_(0, which, self.objective.predicted(batch).sum(1).to(counts))
            for name, part in of_rows(batch).items():
                found[name].index_add_(0, which, part.to(found[name]))
        refuse(pool, (counts == 0).cpu().numpy(), "it has no token that is predicted; give longer queries")
        for value in found.values():
            value.div_(counts.view(-1, *[1] * (value.ndim - 1)))
        finite = torch.stack([torch.isfinite(value).flatten(1).all(1) for value in found.values()]).all(0)
        refuse(pool, (~finite).cpu().numpy(), "its gradient is not finite; train with a lower optimizer.lr")
        return found


def refuse(pool: Pool, is_bad: npt.NDArray[np.bool_], why: str) -> None:
    """Errors: a row is bad; the first is named."""
    if is_bad.any():
        row = pool.table.slice(int(np.flatnonzero(is_bad)[0]), 1)
        raise InputError(f"{pool.name}: row {row[ROW][0].as_py()}, id {row[ID][0].as_py()!r} ({int(is_bad.sum())} such rows): {why}")


def mean_of(vectors: Mapping[str, torch.Tensor]) -> Vectors:
    """Their mean, as one vector (1, *shape)."""
    return {name: value.mean(0, keepdim=True) for name, value in vectors.items()}


def twin(model: torch.nn.Module) -> torch.nn.Module:
    """The same weights in other modules, whose hooks are their own: threads may look at gradients side by side."""
    import torch

    memo: dict[int, Any] = {id(p): torch.nn.Parameter(p.detach(), requires_grad=p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, memo | {id(buffer): buffer for buffer in model.buffers()})


@dataclass(frozen=True)
class GradientScore:
    """The fitted score: <gradient of a unit's summed token loss, vector> for each of some vectors; `per_token`: of its mean."""

    model: torch.nn.Module
    reading: Reading
    products: GradientProducts
    num_columns: int
    per_token: bool = False

    def __call__(self, batch: pa.Table) -> Values:
        """Scores (unit, vector); 0 for a unit without tokens."""
        found = np.zeros((batch.num_rows, self.num_columns))
        counts = np.zeros(batch.num_rows)
        model = twin(self.model)
        for unit, rows in self.reading.rows(model, batch):
            np.add.at(found, unit, self.products(model, self.reading.objective, rows).double().cpu().numpy())
            np.add.at(counts, unit, self.reading.objective.predicted(rows).sum(1).cpu().numpy())
        if self.per_token:
            found /= np.maximum(counts, 1)[:, None]
        return found.astype(np.float32)

    def token_scores(self, table: pa.Table, column: int) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
        """Of each unit its predicted tokens (token,), and what each adds to the unit's score for one vector: the derivative of the token's
        own loss along it, which sum to the score."""
        from dsel.functional.alignment import by_jvp

        model, direction = twin(self.model), self.products.vector(column)
        found = []
        for number in range(table.num_rows):  # few: examples that somebody reads
            parts = []
            for _, batch in self.reading.rows(model, table.slice(number, 1)):
                _, slopes = by_jvp(model, lambda m, batch=batch: self.reading.objective.token_losses(m, batch), direction)  # type: ignore[misc]
                real = self.reading.objective.predicted(batch)
                labels = self.reading.objective.outputs(model, batch)[1]
                parts.append((labels[real].cpu().numpy(), slopes[real].double().cpu().numpy()))
            tokens, adds = (np.concatenate(each) for each in zip(*parts, strict=True)) if parts else (np.empty(0, np.int64), np.empty(0))
            found.append((tokens, adds / max(len(adds), 1) if self.per_token else adds))
        return found


@dataclass(frozen=True)
class WeightedSum:
    """The fitted score: other scores, each times its weight."""

    parts: tuple[GradientScore, ...]
    weights: tuple[float, ...]

    @property
    def num_passes(self) -> float:
        """Over the pool, in forward passes: of each part forward, backward, and each unit's own gradient."""
        return 3.0 * len(self.parts)

    def __call__(self, batch: pa.Table) -> Values:
        """Scores (unit, vector)."""
        found: Values = sum(weight * part(batch) for part, weight in zip(self.parts, self.weights, strict=True))  # type: ignore[assignment]
        return found.astype(np.float32)


@dataclass(frozen=True)
class ProjectedGradients:
    """Gradients of units' mean token losses (`of` "loss"), or mean log odds ("log_odds"), projected; `turn` is done to a row's gradient by
    a parameter (row, *shape) before. A unit of several rows has their mean, by tokens."""

    model: torch.nn.Module
    reading: Reading
    projection: Projection
    of: str = "loss"
    turn: Callable[[str, torch.Tensor], torch.Tensor] | None = None

    def __call__(self, table: pa.Table) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Projected gradients (unit, dim), and mean losses (unit,)."""
        from dsel.functional.row_projection import project_rows

        model, found = twin(self.model), np.zeros((table.num_rows, self.projection.dim))
        losses, counts = np.zeros(table.num_rows), np.zeros(table.num_rows)
        for unit, batch in self.reading.rows(model, table):
            weights = self.reading.objective.predicted(batch).sum(1).double().cpu().numpy()
            values, loss = project_rows(model, self.reading.objective, batch, self.projection, self.of, self.turn)
            np.add.at(found, unit, values.double().cpu().numpy() * weights[:, None])
            np.add.at(losses, unit, loss.double().cpu().numpy() * weights)
            np.add.at(counts, unit, weights)
        counts = np.maximum(counts, 1)
        return found / counts[:, None], losses / counts

    def of_queries(self, pool: Pool) -> npt.NDArray[np.float64]:
        """Projected gradients (query, dim). Errors: a query without a token to predict; a gradient that is not finite."""
        found, _ = self(pool.table)
        refuse(pool, np.logical_not(found.any(axis=1)), "it has no token that is predicted; give longer queries")
        refuse(pool, np.logical_not(np.isfinite(found).all(axis=1)), "its gradient is not finite; train with a lower optimizer.lr")
        return found
