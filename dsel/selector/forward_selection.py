"""Forward selection of tasks by what an estimator says of subsets."""

from __future__ import annotations

from dataclasses import dataclass

from dsel.context import Context
from dsel.pool import Budget, Pool
from dsel.protocol import SubsetEstimator
from dsel.selection import Selection


@dataclass(frozen=True)
class ForwardSelection:
    """Adds the task that lowers the estimated loss most, until none does or `budget` (of tasks) is spent. Each step looks at all tasks that
    are left; with `lazy` only at those whose last gain could still win, which finds the same where gains only shrink.
    """

    estimator: SubsetEstimator
    lazy: bool = False

    def select(self, source: Pool, target: Pool, budget: Budget, context: Context) -> Selection:
        """All units of the chosen tasks, best task first. Errors: the pool has no tasks."""
        from dsel.functional.subset_search import forward_selection, lazy_forward_selection

        names, _ = source.tasks()
        estimate = self.estimator.fit(source, target, context)
        search = lazy_forward_selection if self.lazy else forward_selection
        chosen = search(lambda subsets: estimate(subsets).mean(1), len(names), budget.count_tasks(len(names)))
        return Selection.of_tasks(source, chosen, {"selector": repr(self), "budget": repr(budget)})
