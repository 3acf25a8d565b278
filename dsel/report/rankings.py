"""Rankings of source tasks in a sweep: what they lose, what they cost, and what each source really brings."""

from __future__ import annotations

import statistics
from pathlib import Path

import altair as alt
import polars as pl

from dsel.report.aggregate import baseline, compare_with, margin, pm, rank, values_by_seed
from dsel.report.chart import Chart, Look, draw_metric, finish
from dsel.report.curves import read_all
from dsel.report.results import Sweep

NONE = "none"  # the transfer without a source
SUFFIXES = {"": "", "_regression": " (regression)"}
TITLES = {
    "regret_1": "regret@1 %",
    "regret_3": "regret@3 %",
    "regret_5": "regret@5 %",
    "ndcg": "NDCG",
    "rank_correlation": "rank correlation",
}
TIME, DISK = "metrics.ms_per_source", "metrics.bytes_per_source"
LEAST_MS = 1e-3  # a logarithmic axis has no 0
HARMS, EVEN, HELPS = "#E8A16B", "#F4F4F4", "#6FB1DB"  # light enough for dark digits
SHOWN_DIGITS = 14  # targets beside which a number still fits into each place


def read_transfers(sweep: Sweep, problems: list[str]) -> pl.DataFrame:
    """A row for each seed, target and source that was transferred from: regression, none and performance (means over repeats), gain.

    Cells of one seed share their transfers, so that one cell a seed is taken; a seed whose cells disagree is a problem that is named.
    """
    every = read_all(sweep, "transfer", "transfer.parquet", _read_transfers, problems)
    if every.is_empty():
        return every
    found = []
    for (seed,), own in every.group_by("seed", maintain_order=True):
        parts = own.partition_by("group", maintain_order=True)
        kept = [part.drop("cell", "label", "series", "x", "x_text", "group").sort("target", "source") for part in parts]
        if others := sum(not part.equals(kept[0]) for part in kept):
            name = parts[0]["group"][0]
            problems.append(f"seed {seed}: {others} of {len(parts)} settings have other transfers than {name}, whose are drawn")
        found.append(parts[0].select("seed", "target", "source", "regression", "none", "performance", "gain"))
    return pl.concat(found)


def _read_transfers(path: Path) -> pl.DataFrame:
    frame = pl.read_parquet(path).with_columns(pl.col("performance").cast(pl.Float64))
    means = frame.group_by("target", "source", maintain_order=True).agg(pl.col("performance").mean(), pl.col("regression").first())
    without = means.filter(pl.col("source") == NONE).select("target", none="performance")
    joined = means.filter(pl.col("source") != NONE).join(without, on="target", how="inner", maintain_order="left")
    return joined.with_columns(gain=pl.col("performance") - pl.col("none"))


def mean_gains(transfers: pl.DataFrame) -> pl.DataFrame:
    """A row for each target and source: regression, mean and sd (null for one seed) of the gain over `n` seeds, and of none and
    performance the means. Sources that help most, over all targets, come first."""
    gain = pl.col("gain")
    found = transfers.group_by("target", "source", maintain_order=True).agg(
        pl.col("regression").first(), pl.col("none", "performance").mean(), mean=gain.mean(), sd=gain.std(ddof=1), n=gain.len()
    )
    order = found.group_by("source").agg(weight=pl.col("mean").mean()).sort(["weight", "source"], descending=[True, False])
    places = {name: at for at, name in enumerate(order["source"])}
    return found.sort(pl.col("source").replace_strict(places, return_dtype=pl.Int64), maintain_order=True)


def draw_regrets(frame: pl.DataFrame, means: pl.DataFrame, look: Look) -> Chart | None:
    """Regret@k, NDCG and rank correlation, each with its spread over seeds; those of regressions below."""
    drawn = []
    for suffix, words in SUFFIXES.items():
        panels = [draw_metric(frame, means, look, f"metrics.{name}{suffix}", title + words, (225, 220)) for name, title in TITLES.items()]
        if kept := [panel for panel in panels if panel is not None]:
            drawn.append(alt.concat(*kept, columns=3))
    return finish(alt.vconcat(*drawn)) if drawn else None


def draw_costs_of_rankings(means: pl.DataFrame, look: Look) -> Chart | None:
    """Regret against the milliseconds that a source takes, a panel for classes and one for regressions; sizes are bytes a source."""
    wide = means.filter(pl.col("metric").is_in([TIME, DISK])).pivot("metric", index=["group", "series"], values="mean")
    if TIME not in wide.columns:
        return None
    wide = wide.with_columns(bytes=pl.col(DISK) if DISK in wide.columns else pl.lit(None, pl.Float64))
    wide = wide.select("group", "series", "bytes", ms=pl.col(TIME).clip(LEAST_MS)).with_columns(
        words=pl.col("bytes").map_elements(in_bytes, return_dtype=pl.String)
    )
    panels = []
    for suffix, words in SUFFIXES.items():
        if name := _deepest(means["metric"].to_list(), suffix):
            sd = pl.col("sd").fill_null(0)
            own = means.filter(pl.col("metric") == f"metrics.{name}{suffix}")
            own = own.select("group", regret="mean", sd="sd", low=pl.col("mean") - sd, high=pl.col("mean") + sd)
            joined = wide.join(own, on="group", how="inner", maintain_order="left")
            panels += [_cost_panel(joined, look, TITLES[name] + words)] if len(joined) else []
    return finish(alt.hconcat(*panels)) if panels else None


def _deepest(metrics: list[str], suffix: str) -> str | None:
    """The regret@k of the largest k that was measured."""
    return next((name for name in ("regret_5", "regret_3", "regret_1") if f"metrics.{name}{suffix}" in metrics), None)


def _cost_panel(rows: pl.DataFrame, look: Look, title: str) -> Chart:
    value = {"title": title, "scale": alt.Scale(zero=False, nice=True, padding=12)}
    x = alt.X(
        "ms:Q", title="ms a source, of a further target", scale=alt.Scale(type="log", padding=24, nice=False), axis=alt.Axis(tickCount=6)
    )
    legend = alt.Legend(title="bytes a source", orient="top", format="~s", tickCount=3, symbolFillColor="#999", symbolStrokeWidth=0)
    size = alt.Size("bytes:Q", scale=alt.Scale(type="sqrt", range=[50, 600], zero=True), legend=legend)
    tips = [alt.Tooltip("group:N", title="setting"), alt.Tooltip("ms:Q", format=",.3f", title="ms a source")]
    tips += [alt.Tooltip("words:N", title="kept of a source"), alt.Tooltip("regret:Q", format=".3f", title=title)]
    tips += [alt.Tooltip("sd:Q", format=".3f", title="sd")]
    base = alt.Chart(rows).encode(x=x, color=look.colour())
    return alt.layer(
        base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(y=alt.Y("low:Q", **value), y2="high:Q"),
        base.mark_point(filled=True, opacity=0.9).encode(y=alt.Y("regret:Q", **value), size=size, shape=look.shape(), tooltip=tips),
    ).properties(width=440, height=320)


def in_bytes(count: float) -> str:
    """A size: 66 kB, 18.4 MB, nothing."""
    if count < 0.5:
        return "nothing"
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= power:
            return f"{count / power:.3g} {unit}" if count < 1000 * power else f"{count / power:,.0f} {unit}"
    return f"{count:.0f} B"


def draw_transfers(transfers: pl.DataFrame) -> Chart | None:
    """A row a source and a column a target: the mean gain over seeds, in colours that diverge from 0."""
    if transfers.is_empty():
        return None
    rows = mean_gains(transfers)
    sources, targets = (rows[name].unique(maintain_order=True).to_list() for name in ("source", "target"))
    targets = sorted(targets, key=lambda name: (rows.filter(pl.col("target") == name)["regression"][0], name))
    measure = pl.when("regression").then(pl.lit("correlation")).otherwise(pl.lit("accuracy"))
    rows = rows.with_columns(pl.col("none", "performance", "mean", "sd").round(6), measure=measure)
    limit = float(rows["mean"].abs().quantile(0.95, "higher") or 0) or 1e-6
    scale = alt.Scale(domain=[-limit, 0, limit], range=[HARMS, EVEN, HELPS], clamp=True)
    axis = alt.Axis(orient="top", labelAngle=-35, labelAlign="left", grid=False, domain=False, ticks=False)
    x = alt.X("target:N", sort=targets, title=None, axis=axis)
    y = alt.Y("source:N", sort=sources, title="source", axis=alt.Axis(grid=False, domain=False, ticks=False))
    numbers = {"mean": "gain", "sd": "sd over seeds", "performance": "after the source", "none": "without"}
    tips = ["source:N", "target:N", "measure:N", alt.Tooltip("n:Q", title="seeds")]
    tips += [alt.Tooltip(f"{name}:Q", title=title, format="+.4f" if name == "mean" else ".4f") for name, title in numbers.items()]
    legend = alt.Legend(title="gain", orient="right", format="+.3f")
    base = alt.Chart(rows.drop("regression")).encode(x=x, y=y, tooltip=tips)
    layers = [base.mark_rect().encode(color=alt.Color("mean:Q", scale=scale, legend=legend))]
    if len(targets) <= SHOWN_DIGITS:
        layers.append(base.mark_text(fontSize=10.5, color="#222").encode(text=alt.Text("mean:Q", format="+.3f")))
    return finish(alt.layer(*layers).properties(width=alt.Step(58), height=alt.Step(20)))


def ranking_headline(sweep: Sweep) -> list[str]:
    """What rankings lose and what transfers bring, a sentence an entry; nothing where neither was measured."""
    found = [line for suffix in SUFFIXES for line in _best(sweep, suffix)] + _maps(sweep)
    found += [line for suffix in SUFFIXES for line in _transfers(sweep, suffix)]
    if found and len(seeds := sweep.frame["seed"].unique()) == 1:
        found.append(f"One seed ({seeds[0]}): the spread is unknown, and small differences mean nothing.")
    return found


def _best(sweep: Sweep, suffix: str) -> list[str]:
    """Who loses least, against the baseline and the runner-up."""
    name = _deepest(sweep.frame.columns, suffix)
    metric = f"metrics.{name}{suffix}"
    order = rank(sweep.frame, metric)
    if name is None or not order:
        return []
    first = [group for group, mean in order.items() if mean <= min(order.values()) + 1e-9]
    kind, title = "regression" if suffix else "classification", TITLES[name].removesuffix(" %")
    names, verb = " and ".join(first), "have" if len(first) > 1 else "has"
    text = f"On {kind} targets, {names} {verb} the smallest {title}: {_value(sweep, first[0], metric)} %"
    gap = compare_with(sweep, metric).get(first[0])
    if gap is not None:
        side = "below" if gap.mean < 0 else "above"
        text += f", {pm(abs(gap.mean), gap.sd, 2)} {side} {baseline(sweep)} with the same seeds (lower in {gap.wins} of {gap.n})"
    return [text + ".", *(margin(sweep, metric) if len(first) == 1 else [])]


def _maps(sweep: Sweep) -> list[str]:
    """Embedding space maps beside all tuned models, at the same x."""
    found = []
    names = sweep.frame.filter(pl.col("label") == "esm_logme")["group"].unique(maintain_order=True).to_list()
    times, sizes = (values_by_seed(sweep.frame, metric) for metric in (TIME, DISK))
    for ours in names:
        theirs = ours.replace("esm_logme", "logme", 1)
        ratios = [_ratio(values.get(theirs, {}), values.get(ours, {})) for values in (times, sizes)]
        if any(ratios):
            said = [f"{ratio} times {how}" for ratio, how in zip(ratios, ("as fast", "smaller on disk"), strict=True) if ratio]
            text = f"Beside {theirs}, {ours} is {' and '.join(said)}"
            for suffix, words in SUFFIXES.items():
                if name := _deepest(sweep.frame.columns, suffix):
                    metric = f"metrics.{name}{suffix}"
                    pair = [_value(sweep, group, metric) for group in (ours, theirs)]
                    text += f"; {TITLES[name].removesuffix(' %')}{words} {pair[0]} %, beside {pair[1]} %" if all(pair) else ""
            found.append(text + ".")
    return found


def _transfers(sweep: Sweep, suffix: str) -> list[str]:
    """What targets reach without and after a source, one value a seed."""
    texts = []
    for name in ("none", "best", "mean", "helps"):
        groups = values_by_seed(sweep.frame, f"metrics.transfer_{name}{suffix}").values()
        values = {seed: value for own in groups for seed, value in own.items()}
        if not values:
            return []
        scale, decimals = (100, 1) if name == "helps" else (1, 3)
        texts.append(_spread([scale * value for value in values.values()], decimals))
    kind, measure = ("Regression", "correlation") if suffix else ("Classification", "accuracy")
    none, best, mean, helps = texts
    return [
        f"{kind} targets reach {measure} {none} without a transfer, {best} after their best source and {mean} after a mean one; "
        f"{helps} % of the sources help."
    ]


def _value(sweep: Sweep, group: str, metric: str) -> str:
    """Mean ± sd over seeds, two decimals; empty where it was not measured."""
    values = list(values_by_seed(sweep.frame, metric).get(group, {}).values())
    return _spread(values, 2) if values else ""


def _spread(values: list[float], decimals: int) -> str:
    return pm(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, decimals)


def _ratio(theirs: dict[int, float], ours: dict[int, float]) -> str:
    """How many times as much, mean ± sd over the seeds that both have; empty where there is none."""
    ratios = [theirs[seed] / ours[seed] for seed in sorted(theirs.keys() & ours.keys()) if ours[seed] > 0]
    return _spread(ratios, 1) if ratios else ""
