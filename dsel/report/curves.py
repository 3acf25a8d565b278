"""What the phases left on disk: training curves, the domains and documents that were chosen, and costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dsel.error import InputError
from dsel.report.cell import Cell, read_json
from dsel.report.results import Sweep

LOSSES = ("train_loss", "target_loss", "pool_loss")
LABELS = ("label", "series", "x", "x_text", "group", "seed")
MASKING = ("masked_share", "mask_auc", "mask_precision", "mask_recall", "seconds")
POINTS = 50  # of a curve of single steps: the means over as many parts
MAX_POINTS = 150  # a curve's points in a figure: more than its pixels can show makes the page heavy
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Crossing:
    """The mean curve of `first` is above that of `second` until `step`, and below from there (or never, at the end).

    `seeds` of `n` are the seeds whose own curves change order in the same direction; `gap` is how far below `first`
    ends (nats/token).
    """

    first: str
    second: str
    step: float
    gap: float
    seeds: int
    n: int


def _cells(sweep: Sweep) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Every cell with the columns that label it, in the order of the table."""
    yield from zip(sweep.in_order, sweep.frame.select(LABELS).iter_rows(named=True), strict=True)


def read_curves(sweep: Sweep, phase: str, problems: list[str]) -> pl.DataFrame:
    """The curves of a phase: cell, LABELS, step, tokens, and three losses (nats/token, null where not measured).

    A cell without that phase is not a problem; a curve that cannot be read is.
    """
    return read_all(sweep, phase, "curve.parquet", _read_curve, problems)


def read_masking(sweep: Sweep, phase: str, problems: list[str]) -> pl.DataFrame:
    """What online selection dropped over the steps of a phase: LABELS, step, tokens (null), and MASKING, each the mean over some steps."""
    return read_all(sweep, phase, "online.parquet", _read_masking, problems)


def read_all(sweep: Sweep, phase: str, name: str, read: Callable[[Path], pl.DataFrame], problems: list[str]) -> pl.DataFrame:
    """What `read` makes of the file `name` of a phase, of all cells that have one, with cell and LABELS."""
    found = []
    for cell, labels in _cells(sweep):
        folder = cell.artifact(phase)
        if folder is None or not (folder / name).is_file():
            continue
        try:
            curve = read(folder / name)
        except (OSError, pl.exceptions.PolarsError) as error:
            problems.append(f"{cell.folder}: {name} of {phase} cannot be read ({str(error).splitlines()[0]}); left out")
            continue
        known = {"cell": cell.folder} | labels
        found.append(curve.select(*(pl.lit(known[key], _TYPES[key]).alias(key) for key in ("cell", *LABELS)), *curve.columns))
    return pl.concat(found) if found else pl.DataFrame()


_TYPES: dict[str, Any] = dict.fromkeys(("cell", *LABELS), pl.String) | {"x": pl.Float64, "seed": pl.Int64}


def _read_curve(path: Path) -> pl.DataFrame:
    frame = pl.read_parquet(path)
    for name in (*LOSSES, "tokens"):
        if name not in frame.columns:
            frame = frame.with_columns(pl.lit(None, pl.Float64).alias(name))
    losses = [pl.col(name).cast(pl.Float64).fill_nan(None) for name in LOSSES]
    return frame.select(pl.col("step").cast(pl.Int64), pl.col("tokens").cast(pl.Int64), *losses).sort("step")


def _read_masking(path: Path) -> pl.DataFrame:
    frame = pl.read_parquet(path)
    frame = frame.with_columns(pl.lit(None, pl.Float64).alias(name) for name in MASKING if name not in frame.columns)
    width = max(1, (int(frame["step"].max()) + 1) // POINTS)  # type: ignore[arg-type]
    middle = ((pl.col("step").cast(pl.Int64) // width) * width + width // 2).alias("step")
    values = [pl.col(name).cast(pl.Float64).fill_nan(None) for name in MASKING]
    means = frame.select(middle, *values).group_by("step").agg(pl.col(MASKING).mean()).sort("step")
    return means.select("step", pl.lit(None, pl.Int64).alias("tokens"), *MASKING)


def mean_curves(curves: pl.DataFrame, loss: str = "target_loss") -> pl.DataFrame:
    """A row for each group and step: the labels, step, tokens, mean, low, high, n.

    Only steps that all seeds of the group have: a mean over changing seeds jumps where nothing happened.
    """
    if curves.is_empty():
        return curves
    labels = [key for key in LABELS if key != "seed"]
    value = pl.col(loss)
    found = (
        curves.drop_nulls(loss)
        .group_by(*labels, "step", maintain_order=True)
        .agg(
            tokens=pl.col("tokens").mean(),
            mean=value.mean(),
            low=value.min(),
            high=value.max(),
            n=pl.col("seed").n_unique(),
        )
    )
    return found.filter(pl.col("n") == pl.col("n").max().over("group")).sort("group", "step", maintain_order=True)


def thin(curves: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Every k-th point of each curve, so that no curve has more than MAX_POINTS; the last one stays."""
    index, count = pl.int_range(pl.len()).over(keys), pl.len().over(keys)
    stride = (count + MAX_POINTS - 1) // MAX_POINTS
    return curves.filter((index % stride == 0) | (index == count - 1))


def cross(steps: Floats, one: Floats, two: Floats) -> list[float]:
    """The steps (interpolated) at which `one` and `two` (step,) change order; touching is not crossing."""
    gap = one - two
    kept = np.flatnonzero(gap)
    found = []
    for left, right in pairwise(kept):
        if gap[left] * gap[right] < 0:
            share = abs(gap[left]) / (abs(gap[left]) + abs(gap[right]))
            found.append(float(steps[left] + share * (steps[right] - steps[left])))
    return found


def find_crossings(curves: pl.DataFrame, first: str, second: str, loss: str = "target_loss") -> list[Crossing]:
    """The crossings of the mean curves of two groups, in order of steps, on the steps that both cover.

    `first` and `second` are put such that the one named first ends below.
    """
    means = mean_curves(curves, loss)
    lines = {name: _line(means.filter(pl.col("group") == name), "mean") for name in (first, second)}
    shared = _share(lines[first], lines[second])
    if shared is None:
        return []
    steps, one, two = shared
    if one[-1] > two[-1]:
        first, second, one, two = second, first, two, one
    turned, n = _count_seeds(curves.drop_nulls(loss), first, second, loss)
    return [Crossing(first, second, step, float(two[-1] - one[-1]), turned, n) for step in cross(steps, one, two)]


def _line(frame: pl.DataFrame, column: str) -> tuple[Floats, Floats]:
    return frame["step"].to_numpy().astype(np.float64), frame[column].to_numpy().astype(np.float64)


def _share(one: tuple[Floats, Floats], two: tuple[Floats, Floats]) -> tuple[Floats, Floats, Floats] | None:
    """Both lines on the union of their steps, where they overlap."""
    if not len(one[0]) or not len(two[0]):
        return None
    steps = np.union1d(one[0], two[0])
    steps = steps[(steps >= max(one[0][0], two[0][0])) & (steps <= min(one[0][-1], two[0][-1]))]
    return (steps, np.interp(steps, *one), np.interp(steps, *two)) if len(steps) > 1 else None


def _count_seeds(curves: pl.DataFrame, first: str, second: str, loss: str) -> tuple[int, int]:
    """In how many seeds `first` starts above `second` and ends below, and of how many."""
    turned = n = 0
    for seed in curves["seed"].unique().sort():
        own = curves.filter(pl.col("seed") == seed)
        shared = _share(*(_line(own.filter(pl.col("group") == name), loss) for name in (first, second)))
        if shared is None:
            continue
        gap = shared[1] - shared[2]
        sign = gap[np.flatnonzero(gap)]
        n += 1
        turned += bool(len(sign) and sign[0] > 0 > sign[-1])
    return turned, n


def read_compositions(sweep: Sweep, problems: list[str]) -> list[dict[str, Any]]:
    """What `composition.json` holds for each cell that selected, or `quality.json` after a scan, with cell and LABELS."""
    found = []
    for cell, labels in _cells(sweep):
        places = [(cell.artifact("select"), "composition.json"), (cell.artifact("quality"), "quality.json")]
        path = next((folder / name for folder, name in places if folder is not None and (folder / name).is_file()), None)
        if path is None:
            continue
        try:
            content = read_json(path)
            if not isinstance(content, dict):
                raise InputError("is not a mapping")
        except InputError as error:
            problems.append(f"{cell.folder}: {path.name} {error}; left out")
            continue
        found.append(content | labels | {"cell": cell.folder})
    return found


def phase_costs(sweep: Sweep) -> pl.DataFrame:
    """A row for each group and phase: LABELS but the seed, phase, order, reused, seconds (mean over the group's seeds).

    `reused` time was spent by another cell, whose artifact this one took.
    """
    rows = []
    for cell, labels in _cells(sweep):
        for order, (phase, cost) in enumerate(cell.phases.items()):
            spent = {"phase": phase, "order": order, "reused": bool(cost.get("reused")), "seconds": cost.get("seconds")}
            rows.append(labels | spent)
    if not rows:
        return pl.DataFrame()
    frame = pl.DataFrame(rows, infer_schema_length=None, schema_overrides={"x": pl.Float64, "seconds": pl.Float64})
    keys = [key for key in LABELS if key != "seed"]
    seeds = pl.col("seed").n_unique().over("group")
    return (
        frame.drop_nulls("seconds")
        .with_columns(seconds=pl.col("seconds") / seeds)
        .group_by(*keys, "phase", "reused", maintain_order=True)
        .agg(seconds=pl.col("seconds").sum(), order=pl.col("order").min())
    )
