"""Everything that the page draws, as one JSON value: columns by cell, rounded, with whatever cells share written once."""

from __future__ import annotations

import json
import math
from typing import Any

import polars as pl

from dsel.report.aggregate import AFTER, BEFORE, TRAINED, baseline, find_partners
from dsel.report.chart import COLOURS, GREYS, Look
from dsel.report.content import Content
from dsel.report.curves import Crossing
from dsel.report.embed_config import embed_config
from dsel.report.embed_curves import embed_curves, embed_phases
from dsel.report.embed_selected import embed_selected
from dsel.report.metrics import METRICS, Better
from dsel.report.results import Sweep

DIGITS = 6  # significant ones: more than a reader or a pixel can tell apart
COST_TITLES = {
    "flops": "FLOPs", "chosen_flops": "FLOPs of selection and training", "chosen_seconds": "seconds of selection and training",
    "seconds_here": "seconds in this cell", "peak_memory_mb": "peak memory (MB)",
}  # fmt: skip
LDS, OF_QUERIES = "metrics.lds", "metrics.pearson_each"  # attributions are judged a query


def embed(content: Content) -> str:
    """Compact JSON that may stand inside of a script element: no `<` in it."""
    return json.dumps(to_value(content), separators=(",", ":"), ensure_ascii=False, default=str).replace("<", "\\u003c")


def to_value(content: Content) -> dict[str, Any]:
    """The value behind `embed`; cells are known by their place in the frame of the sweep."""
    sweep = content.sweep
    look = Look.of(sweep.frame, sweep.x)
    places = {folder: at for at, folder in enumerate(sweep.frame["cell"])}
    metrics = _metrics(sweep.frame)
    return {
        "name": sweep.name,
        "baseline": baseline(sweep),
        "x": {"key": sweep.x, "title": look.x_title, "levels": look.levels, "texts": look.texts} if look.x else None,
        "series": _series(look),
        "groups": _groups(sweep, look),
        "cells": _cells(sweep, look),
        "metrics": metrics,
        "metric": first_metric(metrics),
        "crossings": [_crossing(crossing) for crossing in content.crossings],
        **embed_config(sweep),
        **embed_phases(sweep),
        **embed_curves(content.curves, places),
        **embed_selected(content.compositions, places),
    }


def shorten(value: float | None) -> float | int | None:
    """A number with few digits; whole ones without a point."""
    if value is None:
        return None
    found = float(f"{value:.{DIGITS}g}")
    return int(found) if found == int(found) else found


def first_metric(metrics: list[dict[str, Any]]) -> str | None:
    """What the page opens with: a loss of the target, else the first measured value that tells cells apart."""
    by_key = {metric["key"]: metric for metric in metrics}
    wanted = (AFTER, TRAINED, BEFORE, *((LDS,) if OF_QUERIES in by_key else ()))
    losses = [key for key in wanted if key in by_key]
    measured = [metric for metric in metrics if metric["key"].startswith("metrics.")]
    told = [metric for metric in measured if metric["better"] and len(set(metric["values"]) - {None}) > 1]
    order = [*losses, *(metric["key"] for metric in [*told, *measured, *metrics])]
    return order[0] if order else None


def _series(look: Look) -> list[dict[str, str]]:
    greys = list(dict.fromkeys(GREYS.values()))
    colours = [f"c{COLOURS.index(colour)}" if colour in COLOURS else f"g{greys.index(colour)}" for colour in look.colours]
    return [{"name": name, "colour": colour, "shape": shape} for name, colour, shape in zip(look.series, colours, look.shapes, strict=True)]


def _groups(sweep: Sweep, look: Look) -> list[dict[str, Any]]:
    """In the order of the table; `partner` is the place of the baseline's group that it is to be compared with."""
    partners, places = find_partners(sweep), {name: at for at, name in enumerate(look.groups)}
    rows = sweep.frame.unique("group", keep="first", maintain_order=True).select("group", "series", "x", "x_text").iter_rows()
    return [
        {"name": group, "series": look.series.index(series), "x": x, "x_text": text, "partner": places.get(partners.get(group, ""))}
        for group, series, x, text in rows
    ]


def _cells(sweep: Sweep, look: Look) -> dict[str, list[Any]]:
    places = {name: at for at, name in enumerate(look.groups)}
    return {
        "folder": sweep.frame["cell"].to_list(),
        "group": [places[group] for group in sweep.frame["group"]],
        "seed": sweep.frame["seed"].to_list(),
        "label": sweep.frame["label"].to_list(),
        "fingerprint": [str(cell.record.get("fingerprint", "")) for cell in sweep.in_order],
    }


def _metrics(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Every number that a cell measured or cost: those with a title of their own first."""
    named = [entry for entry in METRICS if entry[0] in frame.columns]
    known = {entry[0] for entry in named}
    rest: list[tuple[str, str, int, Better | None]] = [
        (key, _title(key), _decimals(frame[key]), None)
        for key in sorted(frame.columns)
        if key.startswith(("metrics.", "cost.")) and key not in known
    ]
    found = [(entry, True) for entry in named] + [(entry, False) for entry in rest]
    return [_metric(*entry, frame[entry[0]].to_list()) | {"known": is_known} for entry, is_known in found]


def _decimals(values: pl.Series) -> int:
    """Of a metric without a title of its own: four digits of its largest value, whole numbers without a point."""
    if (values.drop_nulls() % 1 == 0).all():
        return 0
    largest = float(values.abs().max())  # type: ignore[arg-type]  # a number, as the column holds numbers
    return min(6, max(2, 3 - math.floor(math.log10(largest))))


def _metric(key: str, title: str, decimals: int, better: Better | None, values: list[float | None]) -> dict[str, Any]:
    unit = "nats/token" if "_loss" in key else ""
    better = "low" if key.startswith("cost.") else better
    return {
        "key": key,
        "title": title,
        "long": _spell_out(key, title),
        "decimals": decimals,
        "better": better,
        "unit": unit,
        "values": [shorten(value) for value in values],
    }


def _spell_out(key: str, title: str) -> str:
    """The title where there is room: `target loss after fine-tuning`."""
    long = title.replace("FT", "fine-tuning")
    return long if "_loss" not in key or "loss" in long else long.replace("target", "target loss").replace("pool", "pool loss")


def _title(key: str) -> str:
    group, _, name = key.partition(".")
    return COST_TITLES.get(name, name.replace("_", " ")) if group == "cost" else name.replace("_", " ")


def _crossing(crossing: Crossing) -> dict[str, Any]:
    own = {"first": crossing.first, "second": crossing.second, "seeds": crossing.seeds, "n": crossing.n}
    return own | {"step": shorten(crossing.step), "gap": shorten(crossing.gap)}
