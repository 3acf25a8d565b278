"""Frozen transfer: a linear head on each tuned model, which itself stays as it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsel.context import TaskContext
from dsel.error import InputError


@dataclass(frozen=True)
class FrozenTransfer:
    """score = accuracy, or correlation, on the share `held_out_share` of the target's rows of a linear head that was fitted to the others,
    on embeddings by the model tuned on the source."""

    held_out_share: float = 0.2

    needs = ("tuned",)

    def __post_init__(self) -> None:
        if not 0 < self.held_out_share < 1:
            raise InputError(f"task_scorer.held_out_share={self.held_out_share}: must be above 0 and below 1")

    def score(self, context: TaskContext) -> npt.NDArray[np.float64]:
        """Scores (source,), at most 1."""
        from dsel.functional.linear_probe import fit_probe, performance

        target = context.target
        order = np.random.default_rng(context.seed).permutation(len(target))
        count = max(1, round(self.held_out_share * len(target)))
        held, rest = np.sort(order[:count]), np.sort(order[count:])
        found = []
        for name in context.sources:
            rows = context.tuned(name).embeddings
            weight, bias = fit_probe(rows[rest], target.labels[rest], target.num_outputs, regression=target.is_regression)
            found.append(performance(rows[held] @ weight.T + bias, target.labels[held], regression=target.is_regression))
        return np.array(found)
