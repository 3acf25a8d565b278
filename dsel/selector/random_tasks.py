"""Tasks drawn at random: the baseline."""

from __future__ import annotations

from dataclasses import dataclass

from dsel.context import Context
from dsel.pool import Budget, Pool
from dsel.selection import Selection


@dataclass(frozen=True)
class RandomTasks:
    """As many tasks as `budget` (of tasks) says, by the phase's own generator."""

    def select(self, source: Pool, target: Pool, budget: Budget, context: Context) -> Selection:
        """All units of the drawn tasks. Errors: the pool has no tasks."""
        names, _ = source.tasks()
        chosen = context.rng.permutation(len(names))[: budget.count_tasks(len(names))].tolist()
        return Selection.of_tasks(source, chosen, {"selector": repr(self), "budget": repr(budget)})
