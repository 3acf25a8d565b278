"""LESS: the cosine of the step that Adam would take on a unit with the target's gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.attribution import ProjectedGradients, Reading
from dsel.context import Context
from dsel.error import InputError
from dsel.pool import TOKENS, Pool
from dsel.protocol import FittedScore

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class AdamStep:
    """From a row's gradient by a parameter to Adam's step on it (row, *shape), by the running means of training."""

    moments: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    betas: tuple[float, float]
    eps: float

    def __call__(self, name: str, gradients: torch.Tensor) -> torch.Tensor:
        """(b1 m + (1 - b1) g) / sqrt(b2 v + (1 - b2) g^2 + eps), without correction of the bias, as released."""
        mean, square = (each.to(gradients) for each in self.moments[name])
        first, second = self.betas
        scale = (second * square + self.eps).addcmul(gradients, gradients, value=1 - second).sqrt_()  # few passes: rows are large
        return (first * mean).add(gradients, alpha=1 - first).div_(scale)


@dataclass(frozen=True)
class AlignedSteps:
    """The fitted score: over snapshots the sum of learning rate times cosine of a unit's projected step with each query's gradient, of
    norm 1 (query, dim)."""

    steps: tuple[ProjectedGradients, ...]
    queries: tuple[Floats, ...]
    rates: tuple[float, ...]

    @property
    def num_passes(self) -> float:
        """Over the pool, in forward passes."""
        return Less.num_passes * len(self.steps)

    def __call__(self, batch: pa.Table) -> npt.NDArray[np.float32]:
        """Scores (unit, query)."""
        found = np.zeros((batch.num_rows, len(self.queries[0])))
        for steps, queries, rate in zip(self.steps, self.queries, self.rates, strict=True):
            found += rate * (_directions(steps(batch)[0]) @ queries.T)
        return found.astype(np.float32)


def _directions(rows: Floats) -> Floats:
    found: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
    return found


@dataclass(frozen=True)
class Less:
    """score(z) = the sum over snapshots of learning rate times cos(step of Adam on z, grad f), f a target unit's mean loss (LESS, arXiv
    2402.04333, section 3), both projected to `dim` dimensions.

    Snapshots are those of phase `phase` (null: the newest that has trained); where `phases.NAME.snapshots` kept none, its end. `each`: a
    column for every unit of the target, else of their mean gradient. Errors: the optimizer kept no mean squares.
    """

    phase: str | None = None
    parameters: str | None = None
    each: bool = False
    dim: int = 8192
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    tokens_per_batch: int = 2048

    reads = (TOKENS,)
    num_passes = 3.0  # forward, backward, and each unit's own gradient; how many snapshots there are the fitted score knows

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        """Take the target's gradients at each snapshot."""
        from dsel.functional.projection import Projection
        from dsel.functional.tracked import tracked_names

        assert context.model is not None
        reading = Reading(context.objective, context.model.context, self.tokens_per_batch)
        projection = Projection("sparse", self.dim, context.seed)
        steps, queries, rates = [], [], []
        for snapshot in context.snapshots(self.phase):
            names = tracked_names(snapshot.model, self.parameters, linear_only=False)
            names = [name for name in names if name in snapshot.moments]
            if not names:
                raise InputError(
                    f"scorer.phase={self.phase}: its training kept no mean squares of gradients; train with optimizer=adamw, "
                    "and without lora"
                )
            for name, parameter in snapshot.model.named_parameters():
                parameter.requires_grad_(name in names)
            values = ProjectedGradients(snapshot.model, reading, projection).of_queries(target)
            queries.append(_directions(values if self.each else values.mean(0, keepdims=True)))
            turn = AdamStep({name: snapshot.moments[name] for name in names}, (self.beta1, self.beta2), self.eps)
            steps.append(ProjectedGradients(snapshot.model, reading, projection, turn=turn))
            rates.append(snapshot.learning_rate)
        return AlignedSteps(tuple(steps), tuple(queries), tuple(rates))
