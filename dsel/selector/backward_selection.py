"""Backward selection of tasks by what an estimator says of subsets."""

from __future__ import annotations

from dataclasses import dataclass

from dsel.context import Context
from dsel.pool import Budget, Pool
from dsel.protocol import SubsetEstimator
from dsel.selection import Selection


@dataclass(frozen=True)
class BackwardSelection:
    """Begins with all tasks and takes out the one without which the estimated loss is lowest, until that helps no more and no more are
    left than `budget` (of tasks) allows."""

    estimator: SubsetEstimator

    def select(self, source: Pool, target: Pool, budget: Budget, context: Context) -> Selection:
        """All units of the tasks that are left. Errors: the pool has no tasks."""
        from dsel.functional.subset_search import backward_selection

        names, _ = source.tasks()
        estimate = self.estimator.fit(source, target, context)
        chosen = backward_selection(lambda subsets: estimate(subsets).mean(1), len(names), budget.count_tasks(len(names)))
        return Selection.of_tasks(source, chosen, {"selector": repr(self), "budget": repr(budget)})
