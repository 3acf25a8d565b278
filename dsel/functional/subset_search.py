"""Searches for the subset of tasks that an estimate likes best.

Subsets are masks (subset, task). An estimate is asked for many at once, and lower is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from dsel.error import InputError
from dsel.functional.masks import Subsets

Floats = npt.NDArray[np.float64]
Evaluate = Callable[[Subsets], Floats]
"""Losses (subset,) of subsets (subset, task)."""


def forward_selection(evaluate: Evaluate, num_tasks: int, most: int | None = None) -> list[int]:
    """Tasks in the order in which they were added: always the one that gives the lowest loss, until none lowers it or there are `most`.

    Every step evaluates all tasks that are left. Ties go to the lower number; nothing is worse than no task.
    """
    chosen: list[int] = []
    left, loss = list(range(num_tasks)), math.inf
    for _ in range(_limit(most, num_tasks)):
        losses = _ask(evaluate, [[*chosen, task] for task in left], num_tasks)
        best = int(losses.argmin())
        if not losses[best] < loss:
            break
        loss = float(losses[best])
        chosen.append(left.pop(best))
    return chosen


def lazy_forward_selection(evaluate: Evaluate, num_tasks: int, most: int | None = None, at_once: int = 1) -> list[int]:
    """The same where a task helps no more the more tasks there are (submodular gains), with fewer evaluations (Minoux, 1978).

    What a task helped when it was last evaluated bounds what it helps now: evaluated anew are only those, `at_once` in one call, that may
    still be the best. Where gains grow, it may find another subset than `forward_selection`.
    """
    limit = _limit(most, num_tasks)
    losses = _ask(evaluate, [[task] for task in range(num_tasks)], num_tasks)
    chosen = [int(losses.argmin())] if losses.min() < math.inf else []
    loss, bounds = float(losses.min()), np.full(num_tasks, np.inf)  # the first losses bound nothing: no task at all is worse than any
    slack = 1e-9 * float(np.abs(losses[np.isfinite(losses)]).max(initial=0))  # gains are rounded: losses settle what is close
    while 0 < len(chosen) < limit:
        losses, is_stale = np.full(num_tasks, np.inf), np.ones(num_tasks, dtype=bool)
        is_stale[chosen] = False
        while True:
            need = max(0.0, loss - losses.min()) - slack
            candidates = np.flatnonzero(is_stale & (bounds >= need))
            if not len(candidates):
                break
            count = max(at_once, int(np.isinf(bounds[candidates]).sum()))
            some = candidates[np.argsort(-bounds[candidates], kind="stable")[:count]]
            losses[some] = _ask(evaluate, [[*chosen, int(task)] for task in some], num_tasks)
            bounds[some], is_stale[some] = loss - losses[some], False
        if not losses.min() < loss:
            break
        loss = float(losses.min())
        chosen.append(int(losses.argmin()))
    return chosen


def backward_selection(evaluate: Evaluate, num_tasks: int, most: int | None = None) -> list[int]:
    """Tasks, ascending, that are left after the one without which the loss is lowest was removed, again and again, until no removal
    lowers the loss and at most `most` are left. Every step evaluates all removals. Ties go to the lower number; one task stays."""
    limit, left = _limit(most, num_tasks), list(range(num_tasks))
    loss = float(_ask(evaluate, [left], num_tasks)[0])
    while len(left) > 1:
        losses = _ask(evaluate, [left[:place] + left[place + 1 :] for place in range(len(left))], num_tasks)
        best = int(losses.argmin())
        if len(left) <= limit and not losses[best] < loss:
            break
        loss = float(losses[best])
        left.pop(best)
    return left


def random_subsets(num_tasks: int, size: int, count: int, seed: int) -> Subsets:
    """`count` different subsets (subset, task) of `size` tasks each, or all there are where they are fewer, in random order.

    Tasks are in about equally many subsets.
    """
    if not 1 <= size <= num_tasks:
        raise InputError(f"subsets of {size} of {num_tasks} tasks: give a size of 1 to {num_tasks}")
    if count < 1:
        raise InputError(f"{count} random subsets: give 1 or more")
    rng, total = np.random.default_rng(seed), math.comb(num_tasks, size)
    if total < 2 * count:
        members = np.array(list(combinations(range(num_tasks), size)))
        members = members[rng.permutation(total)[:count]]
    else:
        members = _balanced(num_tasks, size, count, rng)
    subsets = np.zeros((len(members), num_tasks), dtype=bool)
    np.put_along_axis(subsets, members, True, axis=1)
    return subsets


def affinities(subsets: Subsets, losses: Floats) -> Floats:
    """The mean loss of the subsets that contain a task (task,), of subsets (subset, task) and their losses (subset,).

    Errors: a task that is in no subset, a loss that is not finite.
    """
    if not np.isfinite(losses).all():
        worst = int(np.argmin(np.isfinite(losses)))
        raise InputError(f"subset {worst}: its loss is {losses[worst]}; leave it out")
    counts = subsets.sum(0)
    if not counts.all():
        raise InputError(f"task {int(counts.argmin())}: is in none of the {len(subsets)} subsets; draw more, or larger ones")
    means: Floats = losses @ subsets / counts
    return means


def choose_by_threshold(affinity: Floats, evaluate: Evaluate, most: int | None = None) -> list[int]:
    """The tasks, lowest affinity (task,) first, down to the threshold at which the loss is lowest, or fewer: at most `most`.

    Ties go to the lower number, and to fewer tasks. Errors: an affinity that is not a number.
    """
    if np.isnan(affinity).any():
        raise InputError(f"task {int(np.argmax(np.isnan(affinity)))}: its affinity is nan; give numbers")
    order = [int(task) for task in np.argsort(affinity, kind="stable")]
    losses = _ask(evaluate, [order[: count + 1] for count in range(_limit(most, len(order)))], len(order))
    return order[: int(losses.argmin()) + 1]


def _balanced(num_tasks: int, size: int, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Members (subset, place) of different subsets: by chance, but tasks that were in fewer come first."""
    seen: dict[tuple[int, ...], None] = {}
    counts, noise = np.zeros(num_tasks), 2.0
    while len(seen) < count:
        members = tuple(sorted(np.argsort(counts + noise * rng.random(num_tasks))[:size].tolist()))
        if members in seen:
            noise *= 2  # where balance leaves no other subset
            continue
        seen[members] = None
        counts[list(members)] += 1
        noise = 2.0
    return np.array(list(seen))


def _ask(evaluate: Evaluate, subsets: Sequence[Sequence[int]], num_tasks: int) -> Floats:
    """The losses of subsets that are given by their members. Errors: one that is not a number."""
    masks = np.zeros((len(subsets), num_tasks), dtype=bool)
    for mask, members in zip(masks, subsets, strict=True):
        mask[list(members)] = True
    losses = np.asarray(evaluate(masks), dtype=np.float64)
    if losses.shape != (len(masks),):
        raise InputError(f"the estimate gave losses of shape {losses.shape} for {len(masks)} subsets; expected one each")
    if np.isnan(losses).any():
        raise InputError(f"the estimate of tasks {sorted(subsets[int(np.argmax(np.isnan(losses)))])} is nan; look at their rows")
    return losses


def _limit(most: int | None, num_tasks: int) -> int:
    if num_tasks < 1 or (most is not None and most < 1):
        raise InputError(f"most={most} of {num_tasks} tasks: give 1 or more of each")
    return num_tasks if most is None else min(most, num_tasks)
