"""What all figures share: colours, axes, and the panel that draws one metric with its spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import altair as alt
import polars as pl

from dsel.report.results import BASELINES

# Okabe and Ito's colours, told apart by colour-blind readers; their yellow last, since it is faint on white. Grey is
# for the baselines. Shapes say the same again, for print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C564B", "#F0E442")
GREYS = {"none": "#A6A6A6", "random": "#6E6E6E", "no_mask": "#A6A6A6", "mask_random": "#6E6E6E"}
GREYS |= {"all_tasks": "#A6A6A6", "random_tasks": "#6E6E6E", "random_order": "#6E6E6E", "source_size": "#A6A6A6"}
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
NUMBER = "~g"  # of an axis: where all values are one, Vega would round it to a whole number
FONT = "Helvetica Neue, Arial, Liberation Sans, sans-serif"
NATS = "(nats/token)"
Chart: TypeAlias = alt.Chart | alt.LayerChart | alt.ConcatChart | alt.HConcatChart | alt.FacetChart


@dataclass(frozen=True)
class Look:
    """The series in order with their colours and shapes, and how x is drawn: the same in every figure of a report."""

    series: list[str]
    groups: list[str]
    x: str | None
    levels: list[float]
    texts: list[str]

    @staticmethod
    def of(frame: pl.DataFrame, x: str | None) -> Look:
        """Read the order of series and groups from the frame of a sweep."""
        series = frame["series"].unique(maintain_order=True).to_list()
        groups = frame["group"].unique(maintain_order=True).to_list()
        placed = frame.filter(pl.col("x_text") != "").sort("x", "x_text")
        levels = placed["x"].drop_nulls().unique(maintain_order=True).to_list()
        texts = placed["x_text"].unique(maintain_order=True).to_list()
        return Look(series, groups, x if texts else None, levels if len(levels) == len(texts) else [], texts)

    @property
    def colours(self) -> list[str]:
        """One for each series; beyond eight they come again, with another shape."""
        free = [name for name in self.series if name not in BASELINES]
        return [GREYS.get(name) or COLOURS[free.index(name) % len(COLOURS)] for name in self.series]

    @property
    def shapes(self) -> list[str]:
        """One for each series."""
        return [SHAPES[(at + at // len(SHAPES)) % len(SHAPES)] for at in range(len(self.series))]

    def colour(self, legend: bool = True) -> alt.Color:
        """Colour by series."""
        key = alt.Legend(title=None, orient="top", symbolOpacity=1, columns=6, labelLimit=260) if legend else None
        return alt.Color("series:N", scale=alt.Scale(domain=self.series, range=self.colours), legend=key)

    def shape(self, legend: bool = True) -> alt.Shape:
        """Shape by series; its legend joins that of the colour."""
        key = alt.Legend(title=None, orient="top", columns=6, labelLimit=260) if legend else None
        return alt.Shape("series:N", scale=alt.Scale(domain=self.series, range=self.shapes), legend=key)

    @property
    def x_title(self) -> str:
        """The swept key in words."""
        return (self.x or "").replace(".", " ").replace("_", " ")

    def x_axis(self) -> alt.X:
        """The swept number; logarithmic for fractions and for anything that spans a decade."""
        fraction = (self.x or "").endswith("fraction") and max(self.levels) <= 1
        wide = min(self.levels) > 0 and (fraction or max(self.levels) >= 10 * min(self.levels))
        kind: dict[str, Any] = {"type": "log"} if wide else {"type": "linear", "zero": False}
        scale = alt.Scale(nice=False, padding=24, **kind)
        words = "format(datum.value, '.4~%')" if fraction else "format(datum.value, abs(datum.value) < 1 ? '~g' : '~s')"  # 0.1, not 100m
        axis = alt.Axis(values=self.levels, labelExpr=words, grid=False, labelOverlap=True)
        return alt.X("x:Q", title=self.x_title, scale=scale, axis=axis)


def to_spec(chart: Chart) -> dict[str, Any]:
    """The Vega-Lite specification with its data, however many rows."""
    with alt.data_transformers.enable("default", max_rows=None):
        spec: dict[str, Any] = chart.to_dict()
    return spec


def vega_lite_version() -> str:
    """The version (major.minor) that the specifications are for."""
    return ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])


def finish(chart: Chart) -> Chart:
    """Fonts, greys and no frames; the page's style sheet recolours text and grid in the dark."""
    text = {
        "labelFontSize": 11.5,
        "titleFontSize": 12,
        "titleFontWeight": 500,
        "labelColor": "#444",
        "titleColor": "#222",
    }
    lines = {"gridColor": "#e8e8e8", "domainColor": "#999", "tickColor": "#999"}
    found: Chart = (
        chart.configure(font=FONT, background="white")
        .configure_view(stroke=None)
        .configure_axis(titlePadding=9, labelPadding=4, labelLimit=230, **text, **lines)
        .configure_legend(symbolSize=90, **text | {"labelFontSize": 12, "labelColor": "#222"})
        .configure_title(fontSize=13, fontWeight=600, anchor="start", color="#222", offset=8)
        .configure_concat(spacing=32)
    )
    return found


def _spread(frame: pl.DataFrame, means: pl.DataFrame, metric: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The seeds (value) and the groups (mean, from, to: one standard deviation either way) of one metric."""
    keys = ["series", "group", "x", "x_text"]
    seeds = frame.select(*keys, "seed", value=pl.col(metric)).drop_nulls("value")
    sd = pl.col("sd").fill_null(0)
    found = means.filter(pl.col("metric") == metric)
    groups = found.select(*keys, "mean", "sd", "n", low=pl.col("mean") - sd, high=pl.col("mean") + sd)
    # equal seeds must stay equal, or the axis shows the last bits of a float
    return seeds.with_columns(pl.col("value").round(9)), groups.with_columns(pl.col("mean", "low", "high").round(9))


def draw_metric(frame: pl.DataFrame, means: pl.DataFrame, look: Look, metric: str, title: str, size: tuple[int, int]) -> Chart | None:
    """One metric with its seeds (small), mean and standard deviation: against x, or without one, a row a group."""
    if metric not in frame.columns or frame[metric].null_count() == len(frame):
        return None
    seeds, groups = _spread(frame, means, metric)
    value = {"scale": alt.Scale(zero=False, nice=True, padding=6), "title": title, "axis": alt.Axis(format=NUMBER)}
    draw, height = (_against_number if look.levels else _against_text, size[1]) if look.x else (_rows, alt.Step(30))
    layers = draw(seeds, groups, look, value)
    if metric.startswith("delta."):
        layers.insert(0, _zero_line(look, value))
    return alt.layer(*layers).properties(width=size[0], height=height)


def _zero_line(look: Look, value: dict[str, Any]) -> alt.Chart:
    """Where the method is worth as much as what it is compared with."""
    line = alt.Chart(pl.DataFrame({"zero": [0.0]})).mark_rule(color=GREYS["random"], strokeDash=[5, 4], strokeWidth=1.5)
    return line.encode(y=alt.Y("zero:Q", **value)) if look.x else line.encode(x=alt.X("zero:Q", **value))


def _tips() -> list[alt.Tooltip]:
    number = [
        alt.Tooltip("mean:Q", format=".4f"),
        alt.Tooltip("sd:Q", format=".4f", title="sd"),
        alt.Tooltip("n:Q", title="seeds"),
    ]
    return [alt.Tooltip("group:N", title="setting"), *number]


def _seed_tips() -> list[alt.Tooltip]:
    return [alt.Tooltip("group:N", title="setting"), alt.Tooltip("seed:N"), alt.Tooltip("value:Q", format=".4f")]


def _against_number(seeds: pl.DataFrame, groups: pl.DataFrame, look: Look, value: dict[str, Any]) -> list[alt.Chart]:
    x, placed = look.x_axis(), groups.drop_nulls("x")
    base = alt.Chart(placed).encode(x=x, color=look.colour())
    dots = alt.Chart(seeds.drop_nulls("x")).mark_circle(size=16, opacity=0.45)
    layers = [
        base.mark_line(strokeWidth=2).encode(y=alt.Y("mean:Q", **value)),
        base.mark_rule(strokeWidth=1.5, opacity=0.8).encode(y=alt.Y("low:Q", **value), y2="high:Q"),
        dots.encode(x=x, y=alt.Y("value:Q", **value), color=look.colour(), tooltip=_seed_tips()),
        base.mark_point(size=64, filled=True, opacity=1).encode(y=alt.Y("mean:Q", **value), shape=look.shape(), tooltip=_tips()),
    ]
    flat = groups.filter(pl.col("x").is_null())  # a baseline that has no x is a level to compare with
    if len(flat):
        rule = alt.Chart(flat).mark_rule(strokeDash=[5, 4], strokeWidth=1.5)
        layers.append(rule.encode(y=alt.Y("mean:Q", **value), color=look.colour(), tooltip=_tips()))
    return layers


def _against_text(seeds: pl.DataFrame, groups: pl.DataFrame, look: Look, value: dict[str, Any]) -> list[alt.Chart]:
    axis = alt.Axis(labelAngle=0, grid=False)
    x = alt.X("x_text:N", title=look.x_title, sort=look.texts, axis=axis)
    offset = alt.XOffset("series:N", scale=alt.Scale(domain=look.series))
    base = alt.Chart(groups).encode(x=x, xOffset=offset, color=look.colour())
    dots = alt.Chart(seeds).mark_circle(size=16, opacity=0.45).encode(x=x, xOffset=offset, color=look.colour())
    return [
        base.mark_rule(strokeWidth=1.5, opacity=0.8).encode(y=alt.Y("low:Q", **value), y2="high:Q"),
        dots.encode(y=alt.Y("value:Q", **value), tooltip=_seed_tips()),
        base.mark_point(size=70, filled=True, opacity=1).encode(y=alt.Y("mean:Q", **value), shape=look.shape(), tooltip=_tips()),
    ]


def _rows(seeds: pl.DataFrame, groups: pl.DataFrame, look: Look, value: dict[str, Any]) -> list[alt.Chart]:
    """A row for each group needs no legend: its axis names it."""
    value = value | {"axis": alt.Axis(tickCount=6, format=NUMBER)}
    y = alt.Y("group:N", title=None, sort=look.groups, axis=alt.Axis(grid=True, domain=False, ticks=False, labelFontSize=12.5))
    base = alt.Chart(groups).encode(y=y, color=look.colour(False))
    dots = alt.Chart(seeds).mark_circle(size=16, opacity=0.45).encode(y=y, color=look.colour(False))
    return [
        base.mark_rule(strokeWidth=2, opacity=0.8).encode(x=alt.X("low:Q", **value), x2="high:Q"),
        dots.encode(x=alt.X("value:Q", **value), tooltip=_seed_tips()),
        base.mark_point(size=80, filled=True, opacity=1).encode(x=alt.X("mean:Q", **value), shape=look.shape(False), tooltip=_tips()),
    ]
