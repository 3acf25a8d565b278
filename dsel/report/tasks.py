"""Estimates beside the truth, what they save, and how far a first-order approximation holds."""

from __future__ import annotations

import statistics
from pathlib import Path

import altair as alt
import polars as pl

from dsel.report.aggregate import pm, rank, values_by_seed
from dsel.report.chart import GREYS, Chart, Look, draw_metric, finish
from dsel.report.curves import read_all
from dsel.report.results import Sweep

TITLES = {
    "metrics.relative_error": "relative error",
    "metrics.spearman": "rank correlation with the truth",
    "metrics.lds": "LDS",
    "metrics.speedup": "times as fast as training",
    "metrics.speedup_flops": "times fewer operations",
}


def read_estimates(sweep: Sweep, problems: list[str]) -> pl.DataFrame:
    """A row for each cell and judged subset: estimate, truth, truth_test."""
    return read_all(sweep, "judge", "judged.parquet", _read_estimates, problems)


def read_errors(sweep: Sweep, problems: list[str]) -> pl.DataFrame:
    """A row for each cell, direction and distance: the errors with and without the gradient term."""
    return read_all(sweep, "approximate", "approximation.parquet", _read_errors, problems)


def _read_estimates(path: Path) -> pl.DataFrame:
    return pl.read_parquet(path).select(pl.col("estimate", "truth", "truth_test").cast(pl.Float64))


def _read_errors(path: Path) -> pl.DataFrame:
    return pl.read_parquet(path).select(pl.col("distance", "first_order", "zero_order").cast(pl.Float64))


def draw_estimates(estimates: pl.DataFrame, look: Look) -> Chart | None:
    """A panel for each group: estimate against truth, with the line on which they are equal where the estimates are losses."""
    if estimates.is_empty():
        return None
    names = [name for name in look.groups if name in set(estimates["group"])]
    shown = estimates.select("group", "series", "seed", "estimate", "truth").with_columns(pl.col("estimate", "truth").round(6))
    return finish(alt.concat(*(_scatter(shown.filter(pl.col("group") == name), name, look) for name in names), columns=3))


def _scatter(own: pl.DataFrame, name: str, look: Look) -> Chart:
    scale = alt.Scale(zero=False, padding=8)
    x, y = alt.X("truth:Q", title="true loss", scale=scale), alt.Y("estimate:Q", title="estimate", scale=scale)
    tips = ["seed:N", alt.Tooltip("truth:Q", format=".4f"), alt.Tooltip("estimate:Q", format=".4f")]
    points = (
        alt.Chart(own)
        .mark_point(size=28, filled=True, opacity=0.6)
        .encode(x=x, y=y, shape="seed:N", tooltip=tips, color=look.colour(False))
    )
    layers: list[alt.Chart] = [points]
    if float(own["estimate"].min()) > 0:  # type: ignore[arg-type]
        ends = pl.DataFrame({"truth": [own["truth"].min(), own["truth"].max()]}).with_columns(estimate=pl.col("truth"))
        line = alt.Chart(ends).mark_line(strokeDash=[5, 4], strokeWidth=1.5, color=GREYS["random"])
        layers.insert(0, line.encode(x=x, y=y))
    return alt.layer(*layers).properties(width=225, height=210, title=name)


def draw_agreement(frame: pl.DataFrame, means: pl.DataFrame, look: Look) -> Chart | None:
    """Relative error, rank correlation, LDS and speedups, each with its spread over seeds."""
    size = (300, 220)
    panels = [draw_metric(frame, means, look, metric, title, size) for metric, title in TITLES.items()]
    drawn = [panel for panel in panels if panel is not None]
    return finish(alt.concat(*drawn, columns=2)) if drawn else None


def draw_errors(errors: pl.DataFrame, look: Look) -> Chart | None:
    """A panel for each series: squared relative error against distance, with the gradient term and without; medians over seeds and
    directions, since a log odds near 0 makes any error large."""
    if errors.is_empty():
        return None
    terms = {"first_order": "with the gradient", "zero_order": "without"}
    long = errors.unpivot(list(terms), index=["group", "series", "x_text", "distance"], variable_name="term", value_name="error")
    keys = ["group", "series", "x_text", "distance", "term"]
    medians = long.group_by(keys, maintain_order=True).agg(pl.col("error").median()).with_columns(pl.col("term").replace_strict(terms))
    x = alt.X("distance:Q", title="distance, share of the parameters' norm", axis=alt.Axis(format="%", grid=False, tickCount=5))
    y = alt.Y("error:Q", title="squared relative error", scale=alt.Scale(type="log"))
    dash = alt.StrokeDash(
        "term:N", legend=alt.Legend(title=None, orient="top", symbolType="stroke", symbolSize=400), sort=list(terms.values())
    )
    colour = alt.Color("x_text:N", sort=look.texts, legend=alt.Legend(title=look.x_title, orient="top") if any(look.texts) else None)
    tips = ["series:N", "x_text:N", "term:N", alt.Tooltip("distance:Q", format="%"), alt.Tooltip("error:Q", format=".3g")]
    panels = [
        alt.Chart(medians.filter(pl.col("series") == name))
        .mark_line(point=True, strokeWidth=2)
        .encode(x=x, y=y, color=colour, strokeDash=dash, tooltip=tips)
        .properties(width=300, height=220, title=name)
        for name in look.series
        if name in set(medians["series"])
    ]
    return finish(alt.concat(*panels, columns=2))


SAID = (  # metric, whether the lowest or the highest value is best, the sentence
    ("metrics.relative_error", 1, "{} comes closest to the true losses: its relative error is {}"),
    ("metrics.spearman", -1, "{} orders subsets best: its rank correlation with the truth is {}"),
    ("metrics.speedup", -1, "{} saves most: it is {} times as fast as training on as many subsets"),
    ("metrics.first_order_error_0.02", 1, "Moved by 2 %, the first-order approximation is best for {}: its squared relative error is {}"),
    ("metrics.lds", -1, "{} foretells best what training without some of the data leads to: its rank correlation a query (LDS) is {}"),
    ("metrics.noise_auc", -1, "{} finds wrong examples best: their AUC is {}"),
    ("metrics.copy_mrr", -1, "{} finds copies of the queries best: their mean reciprocal rank is {}"),
    ("metrics.provenance_mrr", -1, "{} finds sources best: their mean reciprocal rank is {}"),
)


def task_headline(sweep: Sweep) -> list[str]:
    """What judged estimates and attributions say, a sentence an entry; nothing where none were judged."""
    found, of_queries = [], bool(rank(sweep.frame, "metrics.pearson_each"))
    for metric, sign, said in SAID:
        if metric == ("metrics.spearman" if of_queries else "metrics.lds"):
            continue  # attribution is judged a query, estimates over all subsets
        if order := list(rank(sweep.frame, metric)):
            best = order[0] if sign > 0 else order[-1]
            values = list(values_by_seed(sweep.frame, metric)[best].values())
            sd = statistics.stdev(values) if len(values) > 1 else None
            decimals = 1 if metric == "metrics.speedup" else 4
            found.append(
                f"{said.format(best, pm(statistics.fmean(values), sd, decimals))} over {len(values)} seed{'s' * (len(values) > 1)}."
            )
    return found
