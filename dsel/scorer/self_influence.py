"""Self-influence: how much a unit acts on its own loss. Mislabelled and odd ones do most."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from threading import Lock

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from dsel.attribution import Reading, twin
from dsel.context import Context
from dsel.functional.curvature import dot
from dsel.functional.gradient_products import example_gradients
from dsel.functional.inverse_curvature import InverseCurvature, Report
from dsel.functional.kronecker import Kronecker
from dsel.pool import TOKENS, Pool
from dsel.preconditioned import check_options, some_of
from dsel.protocol import Curvature, FittedScore

_ALONE = Lock()


@dataclass(frozen=True)
class OwnScore:
    """The fitted score: minus each unit's self-influence; a unit of several rows has their sum, without what one row does to another.
    `model` is not the curvature's own, whose parameters are others while one thread multiplies and the next copies.
    """

    model: torch.nn.Module
    reading: Reading
    inverse: InverseCurvature
    names: tuple[str, ...]
    scale: float

    def __call__(self, batch: pa.Table) -> npt.NDArray[np.float32]:
        """Scores (unit, 1)."""
        found, model = np.zeros(batch.num_rows), twin(self.model)
        for unit, rows in self.reading.rows(model, batch):
            gradients = example_gradients(model, self.reading.objective, rows, list(self.names))
            with _ALONE if not isinstance(self.inverse, Kronecker) else nullcontext():  # products with a curvature share its model
                solved = self.inverse.solve(gradients)
                self._warn()
            np.add.at(found, unit, dot(gradients, solved).double().cpu().numpy())
        return (-self.scale * found).astype(np.float32)[:, None]

    def _warn(self) -> None:
        """Of the first system that was not solved."""
        *earlier, last = self.inverse.reports or [Report("none")]
        if all(report.converged for report in earlier):
            last.warn("scorer self_influence")


@dataclass(frozen=True)
class SelfInfluence:
    """score(z) = - grad loss(z)^T (curvature of the training loss)^-1 grad loss(z) / tokens of the source: minus by how many nats the
    unit's own summed loss rises, to first order, when it is left out of training (arXiv 1703.04730, section 5.4). Low: noise, mistakes,
    oddities; high: what the others know already. The target is not looked at. For the options see `influence`.
    """

    curvature: Curvature
    checkpoint: str | None = None
    parameters: str | None = None
    sample: int = 512
    tokens_per_batch: int = 512

    reads = (TOKENS,)
    num_passes = 3.0  # forward, backward, and each unit's own gradient

    def __post_init__(self) -> None:
        check_options(self.sample)

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        """The inverse of the curvature, at the model."""
        from dsel.functional.gradients import unfreeze
        from dsel.functional.tracked import tracked_names

        assert context.model is not None
        reading = Reading(context.objective, context.model.context, self.tokens_per_batch)
        model = unfreeze(context.load(self.checkpoint))
        sample = some_of(source, self.sample)
        base = (context.checkpoint(self.checkpoint).name, sample.fingerprint, reading.context)
        names = tracked_names(model, self.parameters, self.curvature.linear_only)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in names)
        loss = reading.training_loss(model, sample)
        inverse = self.curvature.fit(loss, names, {}, context.seed, partial(context.keep, base))
        return OwnScore(twin(model), reading, inverse, tuple(names), len(sample) / (loss.num_tokens * len(source)))
