"""Influence on the target's loss, through one phase of training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from dsel.attribution import GradientScore, Reading, mean_of
from dsel.context import Context
from dsel.pool import TOKENS, Pool
from dsel.preconditioned import check_options, leading, load_vectors, save_vectors, some_of
from dsel.protocol import Curvature, FittedScore

if TYPE_CHECKING:
    from dsel.functional.curvature import Vectors


@dataclass(frozen=True)
class Influence:
    """score(z) = grad f^T (curvature of the training loss)^-1 grad loss(z) / tokens of the source, f a target unit's mean loss, at the
    newest checkpoint or that of the phase `checkpoint` (arXiv 1703.04730; by EK-FAC 2308.03296): by how many nats f rises, to first order,
    when z is left out of training. That is minus the influence of z over the source's size, so larger is more helpful.

    `each`: a column for every unit of the target, else their mean. `per_token`: of z's mean token loss, as if it had one token; else of
    their sum. `parameters`: only those in whose names the regular expression is found. The curvature is that of `sample` units of the
    source. `rank`: candidates meet the queries along so many directions of each matrix's rows and columns, on average, which makes many
    queries cheap (see `Kronecker.leading`).
    """

    curvature: Curvature
    checkpoint: str | None = None
    parameters: str | None = None
    each: bool = False
    per_token: bool = True
    rank: int | None = None
    sample: int = 512
    tokens_per_batch: int = 2048

    reads = (TOKENS,)
    num_passes = 3.0  # forward, backward, and each unit's own gradient

    def __post_init__(self) -> None:
        check_options(self.sample, self.rank)

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        """Precondition the target's gradients, or find them on disk."""
        from dsel.functional.gradient_products import GradientProducts
        from dsel.functional.gradients import unfreeze
        from dsel.functional.tracked import only_trained, tracked_names

        assert context.model is not None
        reading = Reading(context.objective, context.model.context, self.tokens_per_batch)
        model = unfreeze(context.load(self.checkpoint))
        sample = some_of(source, self.sample)
        base = (context.checkpoint(self.checkpoint).name, sample.fingerprint, reading.context)
        names = tracked_names(model, self.parameters, self.curvature.linear_only)
        with only_trained(model, names):
            loss = reading.training_loss(model, sample)
            fit = cache(lambda: self.curvature.fit(loss, names, {}, context.seed, partial(context.keep, base)))

            def write(place: Path) -> None:
                solve: Callable[[Vectors], Vectors]
                if self.rank is None:
                    queries, inverse = reading.gradients(model, target, names), fit()
                    solve = inverse.solve
                else:
                    inverse = few = leading(fit(), self.rank)
                    queries, solve = reading.projected_gradients(model, target, few.bases), few.solve_turned
                save_vectors(solve(queries if self.each else mean_of(queries)), inverse.reports, place)

            options = (target.fingerprint, self.each, repr(self.curvature), self.rank, names)
            folder = context.keep(base, "preconditioned", options, write)
            scale = len(sample) / (loss.num_tokens * len(source))
            vectors = load_vectors(folder, next(model.parameters()).device, "scorer influence", scale)
            products = GradientProducts(vectors if self.rank is None else leading(fit(), self.rank).low_rank(vectors))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in names)
        columns = len(target) if self.each else 1
        return GradientScore(model, reading, products, columns, self.per_token)
