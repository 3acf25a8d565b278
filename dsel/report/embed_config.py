"""The configurations of all cells: what they share once, and each key that differs as a column."""

from __future__ import annotations

from typing import Any

from dsel.report.cell import Cell, flatten, plain
from dsel.report.results import Sweep

SEED = "seed"


def embed_config(sweep: Sweep) -> dict[str, Any]:
    """`common`: dotted key -> value in every cell. `keys`: those that differ, what the sweep varied first, each with its distinct `values`
    and for every cell the place `at` of its own (-1: it has no such key)."""
    cells = sweep.in_order
    settings = [_settings(cell) for cell in cells]
    varied = [*dict.fromkeys(key for cell in cells for key in sorted(cell.overrides)), SEED]
    keys = list(dict.fromkeys([*varied, *(key for own in settings for key in own)]))
    common, columns = {}, []
    for key in keys:
        values, at = _column([own.get(key, _ABSENT) for own in settings])
        if len(values) == 1 and -1 not in at:
            common[key] = values[0]
        else:
            columns.append({"key": key, "varied": key in varied, "values": values, "at": at})
    return {"common": common, "keys": columns}


_ABSENT = object()


def _settings(cell: Cell) -> dict[str, Any]:
    """The resolved configuration, flat, and over it what the sweep varied, by the keys that were typed."""
    own = dict(flatten(cell.record.get("config") or {}))
    return own | {key: plain(value) for key, value in cell.overrides.items()} | {SEED: cell.seed}


def _column(found: list[Any]) -> tuple[list[Any], list[int]]:
    """The distinct values in order (numbers by size), and the place of each entry's."""
    distinct = {(type(value).__name__, value): value for value in found if value is not _ABSENT}
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in distinct.values()):
        distinct = dict(sorted(distinct.items(), key=lambda item: item[1]))
    places = {key: at for at, key in enumerate(distinct)}
    return list(distinct.values()), [-1 if value is _ABSENT else places[type(value).__name__, value] for value in found]
