"""How much the gradient of a unit points where the target's does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.attribution import GradientScore, ProjectedGradients, Reading, mean_of
from dsel.context import Context
from dsel.error import InputError
from dsel.pool import TOKENS, Pool
from dsel.protocol import FittedScore

SIMILARITIES = ("dot", "cosine")
Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CosineScore:
    """The fitted score: cosine of a unit's projected gradient with each query's (query, dim), of norm 1."""

    gradients: ProjectedGradients
    queries: npt.NDArray[np.float64]

    def __call__(self, batch: pa.Table) -> Values:
        """Scores (unit, query); 0 for a unit without tokens."""
        return (directions(self.gradients(batch)[0]) @ self.queries.T).astype(np.float32)


def directions(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Each row (row, dim) over its norm; 0 stays 0."""
    found: npt.NDArray[np.float64] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
    return found


@dataclass(frozen=True)
class GradientSimilarity:
    """score(z) = <grad loss(z), grad f>, f a target unit's mean loss, at the newest checkpoint or that of the phase `checkpoint`: of z's
    summed loss ("dot", exact), or the cosine of the two ("cosine", of gradients projected to `dim` dimensions: its error is about
    1/sqrt(dim)).

    `each`: a column for every unit of the target, else of their mean gradient. `per_token`: for "dot", of z's mean token loss.
    """

    similarity: str = "dot"
    checkpoint: str | None = None
    parameters: str | None = None
    each: bool = False
    per_token: bool = True
    dim: int = 4096
    tokens_per_batch: int = 2048

    reads = (TOKENS,)
    num_passes = 3.0  # forward, backward, and each unit's own gradient

    def __post_init__(self) -> None:
        if self.similarity not in SIMILARITIES:
            raise InputError(f"scorer.similarity={self.similarity!r}: must be one of {', '.join(SIMILARITIES)}")

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        """Take the target's gradients."""
        from dsel.functional.gradient_products import GradientProducts
        from dsel.functional.gradients import unfreeze
        from dsel.functional.projection import Projection
        from dsel.functional.tracked import tracked_names

        assert context.model is not None
        model = unfreeze(context.load(self.checkpoint))
        reading = Reading(context.objective, context.model.context, self.tokens_per_batch)
        names = tracked_names(model, self.parameters, linear_only=False)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in names)
        if self.similarity == "dot":
            queries = reading.gradients(model, target, names)
            products = GradientProducts(queries if self.each else mean_of(queries))
            return GradientScore(model, reading, products, len(target) if self.each else 1, self.per_token)
        gradients = ProjectedGradients(model, reading, Projection("sparse", self.dim, context.seed))
        values = gradients.of_queries(target)
        return CosineScore(gradients, directions(values if self.each else values.mean(0, keepdims=True)))
