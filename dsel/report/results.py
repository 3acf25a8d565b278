"""A sweep's `result.json` files as one table, a row a cell."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from dsel.error import InputError
from dsel.outcome import RESULT
from dsel.report.cell import PRETRAIN, Cell, chosen_cost, read_cell

BASELINES = (
    "none",
    "random",
    "no_mask",
    "mask_random",
    "all_tasks",
    "random_tasks",
    "random_order",
    "source_size",
)  # drawn first and in grey: what the others are measured against


@dataclass(frozen=True)
class Sweep:
    """All cells of one experiment.

    `frame` has a row a cell: cell, label, series, x (float, null where it is not a number), x_text, group, seed,
    `overrides.*`, `metrics.*`, `cost.*` (`cost.chosen_*`: without pretraining, which cells share).
    A series is one line of a figure; a group is a series at one x: its rows
    differ in their seed only. `problems` names the files and values that were left out, one line each.
    """

    folder: Path
    cells: list[Cell]
    frame: pl.DataFrame
    x: str | None
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The experiment."""
        return str(self.cells[0].record["name"])

    @property
    def in_order(self) -> list[Cell]:
        """The cells as the rows of the frame stand, which is the order of the table."""
        by_folder = {cell.folder: cell for cell in self.cells}
        return [by_folder[folder] for folder in self.frame["cell"]]

    def ask(self, key: str) -> Any:
        """What the experiment says about how to draw it (question, claim, x, by)."""
        return self.cells[0].record.get("report", {}).get(key)


def read_sweep(folder: Path) -> Sweep:
    """Read every `result.json` under `folder`.

    Errors: no folder, no readable result, or results of several experiments.
    """
    if not folder.is_dir():
        raise InputError(f"report: no folder {folder}; give the folder of a sweep, which holds its cells' {RESULT} files")
    problems: list[str] = []
    cells = [cell for path in sorted(folder.rglob(RESULT)) if (cell := read_cell(path, folder, problems))]
    if not cells:
        told = f" ({len(problems)} could not be read; first: {problems[0]})" if problems else ""
        raise InputError(f"report: no results in {folder}{told}; run the sweep first, or give the folder that holds its cells")
    names = Counter(str(cell.record["name"]) for cell in cells)
    if len(names) > 1:
        raise InputError(f"report: {folder} holds several experiments ({', '.join(sorted(names))}); give the folder of one")
    cells = _drop_repeats(cells, problems)
    x = cells[0].record.get("report", {}).get("x")
    frame = _frame(cells, x, problems)
    return Sweep(folder, cells, frame, x, problems)


def _drop_repeats(cells: list[Cell], problems: list[str]) -> list[Cell]:
    """One cell for each setting and seed: a second one would count a seed twice."""
    seen: dict[str, Cell] = {}
    for cell in cells:
        key = json.dumps([cell.label, cell.overrides, cell.seed], sort_keys=True, default=str)
        if key in seen:
            problems.append(f"{cell.folder}: same settings and seed as {seen[key].folder}; left out")
        seen.setdefault(key, cell)
    return list(seen.values())


def label_keys(cells: list[Cell], x: str | None) -> set[str]:
    """The overrides that only spell out the label (`arm=cds`): each label has one value of them."""
    values: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for cell in cells:
        for key, value in cell.overrides.items():
            values[key][cell.label].add(str(value))
    labels = {cell.label for cell in cells}
    return {
        key
        for key, by_label in values.items()
        if key != x and set(by_label) == labels and all(len(found) == 1 for found in by_label.values())
    }


def _paired_keys(cells: list[Cell], x: str | None) -> set[str]:
    """The overrides that go with x, as `hydra.sweeper.pairs` has them: each x has one value of them."""
    if x is None:
        return set()
    by_x: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        by_x[str(look_up(cell, x))].append(cell)
    keys = {key for cell in cells for key in cell.overrides}
    return {key for key in keys if all(len({str(cell.overrides.get(key)) for cell in own}) == 1 for own in by_x.values())}


def look_up(cell: Cell, key: str | None) -> Any:
    """The value of a dotted key: from what the sweep varied, else from the resolved configuration."""
    if key is None or key in cell.overrides:
        return None if key is None else cell.overrides[key]
    value: Any = cell.record.get("config", {})
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def spell(key: str | None, value: Any) -> str:
    """A value for a reader; fractions as percent."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    if key is not None and key.endswith("fraction") and 0 <= value <= 1:
        return f"{100 * value:.6g}%"
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def _series(cells: list[Cell], x: str | None) -> dict[str, str]:
    """Cell folder -> series: the label (or the value of `report.by`) and whatever else varies within it."""
    by = cells[0].record.get("report", {}).get("by") or "label"
    base = {cell.folder: cell.label if by == "label" else str(look_up(cell, by)) for cell in cells}
    told = {x, by} | _paired_keys(cells, x) | (label_keys(cells, x) if by == "label" else set())
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    for cell in cells:
        for key in cell.overrides.keys() - told:
            values[base[cell.folder], key].add(str(cell.overrides[key]))
    names = {}
    for cell in cells:
        keys = sorted(key for key in cell.overrides.keys() - told if len(values[base[cell.folder], key]) > 1)
        extra = [f"{key.rpartition('.')[2]}={spell(key, cell.overrides[key]) or 'null'}" for key in keys]
        names[cell.folder] = ", ".join([base[cell.folder], *extra])
    return names


def _numbers(prefix: str, values: Mapping[str, Any], cell: Cell, problems: list[str]) -> dict[str, float]:
    """The numbers of a mapping; those that are not finite are named and left empty."""
    found = {}
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if math.isfinite(value):
            found[f"{prefix}.{key}"] = float(value)
        else:
            problems.append(f"{cell.folder}: {prefix}.{key} is {value}; that value is left out")
    return found


def _frame(cells: list[Cell], x: str | None, problems: list[str]) -> pl.DataFrame:
    series = _series(cells, x)
    has_pretraining = any(PRETRAIN in cell.phases for cell in cells)
    rows = []
    for cell in cells:
        value = look_up(cell, x)
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
        text = spell(x, value)
        row: dict[str, Any] = {
            "cell": cell.folder,
            "label": cell.label,
            "series": series[cell.folder],
            "x": number,
            "x_text": text,
            "group": " · ".join(filter(None, (series[cell.folder], text))),
            "seed": cell.seed,
        }
        row |= {f"overrides.{key}": str(value) for key, value in sorted(cell.overrides.items())}
        row |= _numbers("metrics", cell.record["metrics"], cell, problems)
        row |= _numbers("cost", cell.record.get("cost", {}), cell, problems)
        row |= _numbers("cost", chosen_cost(cell.phases) if has_pretraining else {}, cell, problems)
        rows.append(row)
    schema = {"x": pl.Float64}  # also where every value is null
    frame = pl.DataFrame(rows, infer_schema_length=None, schema_overrides=schema)
    first = pl.col("series").map_elements(_rank, return_dtype=pl.Int64)
    return frame.sort(first, "series", "x", "x_text", "seed")


def _rank(series: str) -> int:
    """Baselines first."""
    label = series.partition(",")[0]
    return BASELINES.index(label) if label in BASELINES else len(BASELINES)
