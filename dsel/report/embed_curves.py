"""The curves and the costs by phase of all cells; arrays that several cells share are written once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from dsel.report.curves import LOSSES, MAX_POINTS
from dsel.report.results import Sweep

TITLES = {
    "pretrain": "pretraining",
    "train": "training",
    "continue": "training on the selection",
    "finetune": "fine-tuning on the target",
}
COSTS = ("seconds", "flops", "tokens")


class Arrays:
    """Lists of numbers, each kept once; `place` gives the index of one."""

    def __init__(self) -> None:
        self.kept: dict[tuple[Any, ...], int] = {}

    def place(self, values: list[Any]) -> int | None:
        """None for a list of nothing but None."""
        return self.kept.setdefault(tuple(values), len(self.kept)) if any(value is not None for value in values) else None


def embed_curves(curves: Mapping[str, pl.DataFrame], places: Mapping[str, int]) -> dict[str, Any]:
    """`curves`: by phase its title and, for each cell that has one, the places in `arrays` of its steps, tokens and losses."""
    arrays, found = Arrays(), []
    for phase, frame in curves.items():
        if not frame.is_empty():
            cells = [_curve(own, places[folder], arrays) for (folder,), own in frame.group_by("cell", maintain_order=True)]
            found.append({"phase": phase, "title": TITLES.get(phase, phase), "cells": cells})
    return {"curves": found, "arrays": [list(values) for values in arrays.kept]}


def _curve(own: pl.DataFrame, cell: int, arrays: Arrays) -> dict[str, Any]:
    stride = -(-len(own) // MAX_POINTS)
    kept = own.filter((pl.int_range(pl.len()) % stride == 0) | (pl.int_range(pl.len()) == pl.len() - 1))
    losses = {name: arrays.place(kept[name].round(4).to_list()) for name in LOSSES}
    return {"cell": cell, "step": arrays.place(kept["step"].to_list()), "tokens": arrays.place(kept["tokens"].to_list())} | losses


def embed_phases(sweep: Sweep) -> dict[str, Any]:
    """`phases`: in the order of the pipeline, by cell (null where it lacks the phase): seconds, flops, tokens, and whether another cell had
    spent them."""
    costs = [cell.phases for cell in sweep.in_order]
    names = _in_order([list(own) for own in costs])
    return {"phases": [{"name": name} | _phase([own.get(name) for own in costs]) for name in names]}


def _in_order(pipelines: list[list[str]]) -> list[str]:
    """All phases: those of the longest pipeline, and others behind the phase that they follow."""
    found: list[str] = []
    for names in sorted(pipelines, key=len, reverse=True):
        for at, name in enumerate(names):
            if name not in found:
                found.insert(found.index(names[at - 1]) + 1 if at else 0, name)
    return found


def _phase(costs: list[Mapping[str, Any] | None]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {
        unit: [None if cost is None else _significant(cost.get(unit)) for cost in costs]
        for unit in COSTS
        if any(cost and cost.get(unit) for cost in costs)
    }
    return found | {"reused": [int(bool(cost and cost.get("reused"))) for cost in costs]}


def _significant(value: Any) -> float | None:
    return float(f"{value:.5g}") if isinstance(value, int | float) else None
