"""TRAK: influence on the model's log odds, as in a regression on projected gradients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.attribution import ProjectedGradients, Reading
from dsel.context import Context
from dsel.error import InputError
from dsel.pool import TOKENS, Pool
from dsel.preconditioned import check_options, some_of
from dsel.protocol import FittedScore

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RegressionScore:
    """The fitted score: <a unit's projected gradient of its log odds, query> times 1 - p, p the mean probability of its tokens."""

    gradients: ProjectedGradients
    queries: Floats

    def __call__(self, batch: pa.Table) -> npt.NDArray[np.float32]:
        """Scores (unit, query)."""
        values, losses = self.gradients(batch)
        found: npt.NDArray[np.float32] = ((values @ self.queries.T) * -np.expm1(-losses)[:, None]).astype(np.float32)
        return found


@dataclass(frozen=True)
class Trak:
    """score(z) = phi(q)^T (Phi^T Phi + lambda)^-1 phi(z) (1 - p(z)), phi the gradient of the log odds f = log(p / (1 - p)) projected to
    `dim` dimensions, Phi those of `sample` units of the source (TRAK, arXiv 2303.14186, equation 17, of one model). f is the mean over
    a unit's tokens; p is exp(-mean token loss).

    lambda is `damping` times the mean eigenvalue of Phi^T Phi. `each`: a column for every unit of the target, else their mean.
    """

    checkpoint: str | None = None
    parameters: str | None = None
    each: bool = False
    dim: int = 512
    damping: float = 1.0
    sample: int = 4096
    tokens_per_batch: int = 2048

    reads = (TOKENS,)
    num_passes = 3.0  # forward, backward, and each unit's own gradient

    def __post_init__(self) -> None:
        check_options(self.sample)
        if self.damping <= 0:
            raise InputError(f"scorer.damping={self.damping}: must be above 0")

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        """Project the gradients of the target and of the sample."""
        from dsel.functional.gradients import unfreeze
        from dsel.functional.projection import Projection
        from dsel.functional.tracked import tracked_names

        assert context.model is not None
        model = unfreeze(context.load(self.checkpoint))
        names = tracked_names(model, self.parameters, linear_only=False)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in names)
        reading = Reading(context.objective, context.model.context, self.tokens_per_batch)
        gradients = ProjectedGradients(model, reading, Projection("sparse", self.dim, context.seed), "log_odds")
        queries = gradients.of_queries(target)
        square = np.zeros((self.dim, self.dim))
        sample = some_of(source, self.sample).table
        for first in range(0, sample.num_rows, 256):
            values, _ = gradients(sample.slice(first, 256))
            square += values.T @ values
        square[np.diag_indices(self.dim)] += self.damping * np.trace(square) / self.dim
        return RegressionScore(gradients, np.linalg.solve(square, (queries if self.each else queries.mean(0, keepdims=True)).T).T)
