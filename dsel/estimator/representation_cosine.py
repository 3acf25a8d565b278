"""Similarity of representations: tasks whose mean hidden state points along the target's."""

from __future__ import annotations

import time
from dataclasses import dataclass

from dsel.context import Context
from dsel.features import count_tokens
from dsel.functional.flops import FORWARD, num_parameters
from dsel.pool import Pool
from dsel.protocol import Estimate
from dsel.subset import AdditiveEstimate, Work


@dataclass(frozen=True)
class RepresentationCosine:
    """A task's affinity is the cosine of the mean of its units' vectors with the target's, both seen from the middle of all tasks.

    A unit's vector is the mean over its tokens of what the newest model's output layer is given.
    """

    def fit(self, source: Pool, target: Pool, context: Context) -> Estimate:
        """One forward pass over all units."""
        from dsel.functional.task_cosine import task_cosines
        from dsel.functional.unit_outputs import unit_vectors

        assert context.model is not None
        started, model = time.monotonic(), context.load(None)
        own, theirs = (unit_vectors(model, context.objective, pool.table, context.model.context) for pool in (source, target))
        _, numbers = source.tasks()
        middle = own.mean(0)
        tokens = sum(count_tokens(pool, context.objective) for pool in (source, target))
        flops = FORWARD * num_parameters(model) * tokens
        return AdditiveEstimate(task_cosines(own - middle, numbers, theirs - middle), Work(time.monotonic() - started, flops))
