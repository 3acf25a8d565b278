"""The random ensemble: how well the subsets do that hold a task (arXiv 2409.19458)."""

from __future__ import annotations

from dataclasses import dataclass

from dsel.context import Context
from dsel.error import InputError
from dsel.pool import Budget, Pool
from dsel.protocol import SubsetEstimator
from dsel.selection import Selection


@dataclass(frozen=True)
class RandomEnsemble:
    """A task's affinity is the mean estimated loss over those of `num_subsets` random subsets, of a share `share` of the tasks, that hold
    it. Tasks are taken in that order, as many as are estimated best and `budget` (of tasks) allows; with `fill`, all that it allows.
    """

    estimator: SubsetEstimator
    num_subsets: int = 1000
    share: float = 0.5
    fill: bool = False

    def __post_init__(self) -> None:
        if self.num_subsets < 1:
            raise InputError(f"selector.num_subsets={self.num_subsets}: must be at least 1")
        if not 0 < self.share < 1:
            raise InputError(f"selector.share={self.share}: must be above 0 and below 1")

    def select(self, source: Pool, target: Pool, budget: Budget, context: Context) -> Selection:
        """All units of the chosen tasks, best task first. Errors: the pool has no tasks; a task stands in no random subset."""
        from dsel.functional.subset_search import affinities, choose_by_threshold, random_subsets

        names, _ = source.tasks()
        most = budget.count_tasks(len(names))
        estimate = self.estimator.fit(source, target, context)
        size = min(max(1, round(self.share * len(names))), len(names))
        subsets = random_subsets(len(names), size, self.num_subsets, int(context.rng.integers(2**31)))
        affinity = affinities(subsets, estimate(subsets).mean(1))
        chosen = affinity.argsort(kind="stable")[:most].tolist()
        if not self.fill:
            chosen = choose_by_threshold(affinity, lambda masks: estimate(masks).mean(1), most)
        return Selection.of_tasks(source, chosen, {"selector": repr(self), "budget": repr(budget), "affinities": affinity.tolist()})
