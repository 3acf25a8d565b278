"""Statistics over seeds: means and spread, differences paired by seed, changes of rank, and the headline."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations

import polars as pl

from dsel.report.cell import Cell
from dsel.report.results import Sweep, label_keys

BEFORE, AFTER = "metrics.target_loss_before_ft", "metrics.target_loss_after_ft"
TRAINED = "metrics.target_loss_trained"  # where there is no fine-tuning
GROUP = ("group", "label", "series", "x", "x_text")


@dataclass(frozen=True)
class Difference:
    """A difference paired by seed: `mean` and `sd` (None for one seed), and in how many of `n` seeds it is negative."""

    mean: float
    sd: float | None
    wins: int
    n: int


def value_columns(frame: pl.DataFrame) -> list[str]:
    """The measured columns: metrics, differences and costs."""
    return [name for name in frame.columns if name.startswith(("metrics.", "delta.", "cost."))]


def aggregate(frame: pl.DataFrame) -> pl.DataFrame:
    """A row for each group and metric: GROUP, metric, mean, sd (ddof=1; null for one seed), n, low, high.

    `n` counts the seeds that have the metric; groups keep the order of `frame`.
    """
    long = frame.unpivot(value_columns(frame), index=[*GROUP, "seed"], variable_name="metric").drop_nulls("value")
    value = pl.col("value")
    return long.group_by(*GROUP, "metric", maintain_order=True).agg(
        mean=value.mean(), sd=value.std(ddof=1), n=value.len(), low=value.min(), high=value.max()
    )


def group_order(frame: pl.DataFrame) -> list[str]:
    """The groups, in the order of the table."""
    return frame["group"].unique(maintain_order=True).to_list()


def values_by_seed(frame: pl.DataFrame, metric: str) -> dict[str, dict[int, float]]:
    """Group -> seed -> value, without the groups that lack the metric."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    if metric in frame.columns:
        for group, seed, value in frame.select("group", "seed", metric).drop_nulls().iter_rows():
            found[group][seed] = value
    return dict(found)


def difference(ours: dict[int, float], theirs: dict[int, float]) -> Difference | None:
    """Of the seeds that both have; None where there is none."""
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    found = [ours[seed] - theirs[seed] for seed in seeds]
    sd = statistics.stdev(found) if len(found) > 1 else None
    return Difference(statistics.fmean(found), sd, sum(value < 0 for value in found), len(found))


def baseline(sweep: Sweep) -> str:
    """The label that the others are compared with: the experiment's `report.baseline`."""
    return str(sweep.ask("baseline") or "random")


def compare_with(sweep: Sweep, metric: str) -> dict[str, Difference]:
    """Group -> its difference from the baseline, paired by seed and, where both have one, by x and other settings.

    Groups without a counterpart are absent: a method at one budget is never compared with random at another.
    """
    values = values_by_seed(sweep.frame, metric)
    found: dict[str, Difference] = {}
    for group, base in find_partners(sweep).items():
        gap = difference(values.get(group, {}), values.get(base, {}))
        found |= {group: gap} if gap else {}
    return found


def add_differences(sweep: Sweep) -> pl.DataFrame:
    """The frame of a sweep with a column `delta.*` for each target and pool loss: the cell's minus its partner's."""
    frame, partners = sweep.frame, find_partners(sweep)
    for metric in (name for name in frame.columns if name.startswith(("metrics.target_loss", "metrics.pool_loss"))):
        values = values_by_seed(frame, metric)
        base = [values.get(partners.get(group, ""), {}).get(seed) for group, seed in frame.select("group", "seed").iter_rows()]
        column = pl.col(metric) - pl.Series(base, dtype=pl.Float64)
        frame = frame.with_columns(column.alias(metric.replace("metrics.", "delta.")))
    return frame


def find_partners(sweep: Sweep) -> dict[str, str]:
    """Group -> the one group of the baseline that it is to be compared with."""
    ignored = label_keys(sweep.cells, sweep.x)
    group_of = dict(sweep.frame.select("cell", "group").iter_rows())
    name = baseline(sweep)
    bases = [cell for cell in sweep.cells if cell.label == name]
    found: dict[str, set[str]] = defaultdict(set)
    for cell in sweep.cells:
        if cell.label != name:
            found[group_of[cell.folder]] |= {group_of[base.folder] for base in bases if _match(cell, base, ignored)}
    return {group: next(iter(names)) for group, names in found.items() if len(names) == 1}


def _match(cell: Cell, base: Cell, ignored: set[str]) -> bool:
    shared = (cell.overrides.keys() & base.overrides.keys()) - ignored
    return all(cell.overrides[key] == base.overrides[key] for key in shared)


def rank(frame: pl.DataFrame, metric: str) -> dict[str, float]:
    """Group -> mean of a metric, lowest first."""
    means = {group: statistics.fmean(seeds.values()) for group, seeds in values_by_seed(frame, metric).items()}
    return dict(sorted(means.items(), key=lambda item: item[1]))


def count_swaps(frame: pl.DataFrame, first: str = BEFORE, second: str = AFTER) -> tuple[int, int]:
    """How many pairs of groups stand in another order under the second metric than under the first, and of how many."""
    one, two = rank(frame, first), rank(frame, second)
    pairs = list(combinations([group for group in one if group in two], 2))
    return sum((one[a] - one[b]) * (two[a] - two[b]) < 0 for a, b in pairs), len(pairs)


def pm(mean: float, sd: float | None, decimals: int = 3, signed: bool = False) -> str:
    """`mean ± sd` with a true minus sign; from ten millions on as 4.78e12, but whole numbers in full."""
    if decimals and abs(mean) >= 1e7:
        power = math.floor(math.log10(abs(mean)))
        return " ± ".join(f"{value / 10.0**power:.2f}e{power}" for value in (mean, sd) if value is not None).replace("-", "\N{MINUS SIGN}")
    text = f"{mean:+,.{decimals}f}" if signed else f"{mean:,.{decimals}f}"
    return (text if sd is None else f"{text} ± {sd:,.{decimals}f}").replace("-", "\N{MINUS SIGN}")


def has_target_loss(frame: pl.DataFrame) -> bool:
    """Whether some cell measured one."""
    return any(rank(frame, metric) for metric in (AFTER, BEFORE, TRAINED))


def headline(sweep: Sweep) -> list[str]:
    """What the numbers say, a sentence an entry, most important first."""
    metric = next((metric for metric in (AFTER, BEFORE, TRAINED) if rank(sweep.frame, metric)), AFTER)
    order = rank(sweep.frame, metric)
    if not order:
        return ["No cell has a target loss yet."]
    found = [_lead(sweep, metric, next(iter(order))), *margin(sweep, metric)]
    if metric == AFTER and (before := rank(sweep.frame, BEFORE)):
        first = next(iter(before))
        place = list(before).index(next(iter(order))) + 1 if next(iter(order)) in before else None
        swaps, pairs = count_swaps(sweep.frame)
        lead = "It leads before fine-tuning, too" if place == 1 else f"Before fine-tuning {first} leads ({before[first]:.3f})"
        there = f", where the later winner is number {place} of {len(before)}" if place and place > 1 else ""
        found.append(f"{lead}{there}; fine-tuning turns the order of {swaps} of {pairs} pairs of settings.")
    if len(seeds := sweep.frame["seed"].unique()) == 1:
        found.append(f"One seed ({seeds[0]}): the spread is unknown, and small differences mean nothing.")
    return found


def _lead(sweep: Sweep, metric: str, best: str) -> str:
    values = values_by_seed(sweep.frame, metric)[best].values()
    sd = statistics.stdev(values) if len(values) > 1 else None
    when = {AFTER: "After fine-tuning", BEFORE: "Before fine-tuning", TRAINED: "At the end of training"}[metric]
    text = f"{when}, {best} has the lowest target loss: {pm(statistics.fmean(values), sd)} nats/token"
    text += f" over {len(values)} seeds" if len(values) > 1 else ""
    difference = compare_with(sweep, metric).get(best)
    if difference is None:
        return text + "."
    side = "below" if difference.mean < 0 else "above"
    gap = pm(abs(difference.mean), difference.sd)
    return f"{text}, {gap} {side} {baseline(sweep)} with the same seeds (lower in {difference.wins} of {difference.n})."


def margin(sweep: Sweep, metric: str) -> list[str]:
    """The winner against the runner-up, and whether the seeds agree."""
    order = list(rank(sweep.frame, metric))
    if len(order) < 2:
        return []
    values = values_by_seed(sweep.frame, metric)
    gap = difference(values[order[0]], values[order[1]])
    if gap is None:
        return []
    text = f"The runner-up, {order[1]}, is {pm(abs(gap.mean), gap.sd)} behind"
    close = gap.sd is not None and abs(gap.mean) < 2 * gap.sd / gap.n**0.5
    if close or gap.wins < gap.n:
        return [f"{text} ({gap.wins} of {gap.n} seeds agree): too close to call."]
    return [f"{text} ({gap.wins} of {gap.n} seeds agree)."]
