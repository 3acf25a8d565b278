"""The tasks that help most by themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dsel.context import Context
from dsel.pool import Budget, Pool
from dsel.protocol import SubsetEstimator
from dsel.selection import Selection


@dataclass(frozen=True)
class TopTasks:
    """The tasks with the lowest estimated loss each alone, as many as `budget` (of tasks) says: top k by affinity. With
    `estimator=gradient_cosine` or `representation_cosine` these are the baselines by similarity."""

    estimator: SubsetEstimator

    def select(self, source: Pool, target: Pool, budget: Budget, context: Context) -> Selection:
        """All units of the chosen tasks, best task first. Errors: the pool has no tasks."""
        names, _ = source.tasks()
        losses = self.estimator.fit(source, target, context)(np.eye(len(names), dtype=bool)).mean(1)
        chosen = np.argsort(losses, kind="stable")[: budget.count_tasks(len(names))].tolist()
        return Selection.of_tasks(source, chosen, {"selector": repr(self), "budget": repr(budget), "losses": losses.tolist()})
