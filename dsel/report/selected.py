"""The figures on what was selected and what it cost: domains, scores, seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from dsel.report.chart import Chart, Look, finish

POOL = "#9a9a9a"


def draw_domains(shares: pl.DataFrame, look: Look, top: int = 15) -> Chart | None:
    """Each domain's share of the selection against its share of the pool; the largest first.

    `shares` has series, x_text, domain, pool, selected (shares in 0..1, means over seeds).
    """
    if shares.is_empty():
        return None
    weight = pl.max_horizontal("selected", "pool").max()
    order = shares.group_by("domain").agg(weight=weight).sort(["weight", "domain"], descending=[True, False])["domain"].to_list()[:top]
    kept = shares.filter(pl.col("domain").is_in(order))
    texts = [text for text in look.texts if text in set(kept["x_text"])] or [""]
    texts = texts if len(texts) <= 2 else [texts[0], texts[-1]]  # the extremes tell the story; the table has the rest
    panels: list[Chart] = []
    for text in texts:
        panel = _domain_panel(kept.filter(pl.col("x_text") == text), look, order, hide=bool(panels))
        panel = panel.properties(width=600 if len(texts) == 1 else 350, height=alt.Step(22))
        panels.append(panel.properties(title=f"{look.x_title}: {text}") if text else panel)
    return finish(alt.hconcat(*panels))


def _domain_panel(shares: pl.DataFrame, look: Look, order: Sequence[str], hide: bool) -> Chart:
    axis = alt.Axis(labels=not hide, ticks=False, domain=False, grid=True)
    y = alt.Y("domain:N", sort=list(order), title=None, axis=axis)
    x: dict[str, Any] = {"axis": alt.Axis(format="%", tickCount=5), "title": "share (grey bar: pool; points: selected)"}
    pool = shares.select("domain", "pool").unique(subset="domain", maintain_order=True)
    bars = alt.Chart(pool).mark_bar(color=POOL, opacity=0.4, height=13).encode(y=y, x=alt.X("pool:Q", **x))
    tips: list[Any] = [
        "series:N",
        "domain:N",
        alt.Tooltip("selected:Q", format=".2%"),
        alt.Tooltip("pool:Q", format=".2%"),
    ]
    dots = alt.Chart(shares).mark_point(size=64, filled=True, opacity=0.9)
    return alt.layer(bars, dots.encode(y=y, x=alt.X("selected:Q", **x), color=look.colour(), shape=look.shape(), tooltip=tips))


def draw_scores(histogram: pl.DataFrame) -> Chart | None:
    """Histograms of scores, a panel a series: pool, planted and selected documents, each as shares of its number.

    `histogram` has series, kind, low, high (edges of the bin), share.
    """
    if histogram.is_empty():
        return None
    colours = {"pool": POOL, "planted": "#D55E00", "positive": "#D55E00", "selected": "#0072B2"}
    kinds = [kind for kind in colours if kind in set(histogram["kind"])]
    colour = alt.Color(
        "kind:N",
        sort=kinds,
        scale=alt.Scale(domain=kinds, range=[colours[kind] for kind in kinds]),
        legend=alt.Legend(title=None, orient="top"),
    )
    names = histogram["series"].unique(maintain_order=True).to_list()
    width = 600 if len(names) == 1 else 400 if len(names) == 2 else 250
    tips: list[Any] = ["kind:N", *(alt.Tooltip(f"{name}:Q", format=form) for name, form in _BIN.items())]
    axis, domain = alt.Axis(format="%", tickCount=5), [0, histogram["share"].max()]
    y = alt.Y("share:Q", title="share of its kind per bin", axis=axis, scale=alt.Scale(domain=domain), stack=None)
    x = alt.X("low:Q", bin="binned", title="score (larger = keep)", axis=alt.Axis(grid=False, tickCount=6))
    panels = []
    for name in names:
        bars = alt.Chart(histogram.filter(pl.col("series") == name)).mark_bar(opacity=0.5, binSpacing=0)
        bars = bars.encode(x=x, x2="high:Q", y=y, color=colour, tooltip=tips)
        panels.append(bars.properties(width=width, height=180, title=name))
    return finish(alt.concat(*panels, columns=3 if len(names) > 2 else 2))


_BIN = {"low": ".3g", "high": ".3g", "share": ".1%"}


def draw_costs(costs: pl.DataFrame, look: Look) -> Chart | None:
    """Seconds by phase, a bar a group; faint where another cell had spent them already."""
    if costs.is_empty():
        return None
    phases = costs.sort("order", maintain_order=True)["phase"].unique(maintain_order=True).to_list()
    colours = ["#56B4E9", "#E69F00", "#CC79A7", "#0072B2", "#009E73", "#D55E00", "#F0E442", "#8C564B", "#6E6E6E"]
    scale = alt.Scale(domain=phases, range=[colours[at % len(colours)] for at in range(len(phases))])
    tips: list[Any] = [
        alt.Tooltip("group:N", title="setting"),
        "phase:N",
        alt.Tooltip("seconds:Q", format=",.1f"),
        "reused:N",
    ]
    chart = alt.Chart(costs.select("group", "phase", "reused", "seconds", "order")).mark_bar(height=16)
    return finish(
        chart.encode(
            y=alt.Y("group:N", sort=look.groups, title=None, axis=alt.Axis(ticks=False, domain=False)),
            x=alt.X("seconds:Q", title="seconds (mean over seeds; faint: reused from another cell)"),
            color=alt.Color("phase:N", scale=scale, sort=phases, legend=alt.Legend(title=None, orient="top", columns=8)),
            opacity=alt.condition("datum.reused", alt.value(0.35), alt.value(1)),
            order=alt.Order("order:Q"),
            tooltip=tips,
        ).properties(width=680, height=alt.Step(26))
    )
