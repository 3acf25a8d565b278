"""The figures of a report: each function takes frames and returns a chart, or None where there is nothing to draw."""

from __future__ import annotations

import altair as alt
import polars as pl

from dsel.report.aggregate import AFTER, BEFORE, TRAINED
from dsel.report.chart import NATS, Chart, Look, draw_metric, finish
from dsel.report.curves import mean_curves, thin
from dsel.report.results import BASELINES

VIRIDIS = ("#440154", "#3b528b", "#21918c", "#5ec962", "#e5c614")


def draw_losses(frame: pl.DataFrame, means: pl.DataFrame, look: Look) -> Chart | None:
    """Target loss before and after fine-tuning, side by side."""
    titles = {BEFORE: f"target loss before fine-tuning {NATS}", AFTER: f"target loss after fine-tuning {NATS}"}
    titles |= {TRAINED: f"target loss {NATS}"}
    return _side_by_side(frame, means, look, titles)


def draw_differences(frame: pl.DataFrame, means: pl.DataFrame, look: Look) -> Chart | None:
    """Target loss minus that of the baseline with the same seed: without the spread that all methods of a seed share."""
    titles = {f"delta.target_loss_{when}_ft": f"difference {when} fine-tuning {NATS}" for when in ("before", "after")}
    titles |= {TRAINED.replace("metrics.", "delta."): f"difference {NATS}"}
    return _side_by_side(frame, means, look, titles)


def draw_forgetting(frame: pl.DataFrame, means: pl.DataFrame, look: Look) -> Chart | None:
    """Loss on the generic pool before and after fine-tuning (or once, where it was measured once)."""
    titles = {f"metrics.pool_loss_{when}_ft": f"pool loss {when} fine-tuning {NATS}" for when in ("before", "after")}
    titles |= {"metrics.pool_loss_trained": f"pool loss {NATS}"}
    if not any(metric in frame.columns for metric in titles):
        titles = {"metrics.pool_loss": f"pool loss {NATS}"}
    return _side_by_side(frame, means, look, titles)


def draw_selector(frame: pl.DataFrame, means: pl.DataFrame, look: Look) -> Chart | None:
    """How well a selector found the planted documents."""
    titles = {
        "metrics.selector_precision": "precision",
        "metrics.selector_recall": "recall",
        "metrics.selector_auc": "AUC",
    }
    return _side_by_side(frame, means, look, titles)


def draw_translations(frame: pl.DataFrame, means: pl.DataFrame, look: Look) -> Chart | None:
    """BLEU before and after fine-tuning, or on the target and on held-out pairs of the pool; None where nothing was translated."""
    titles = {f"metrics.bleu_{when}_ft": f"BLEU {when} fine-tuning" for when in ("before", "after")}
    if not any(metric in frame.columns for metric in titles):
        if "metrics.bleu_trained" not in frame.columns:
            return None
        titles = {"metrics.bleu_trained": "BLEU", "metrics.pool_bleu_trained": "BLEU on the pool", "metrics.mask_auc": "AUC of the mask"}
    return _side_by_side(frame, means, look, titles)


def draw_detection(frame: pl.DataFrame, means: pl.DataFrame, look: Look) -> Chart | None:
    """How well attribution finds noise, copies and sources."""
    titles = {"metrics.noise_auc": "AUC of noise", "metrics.planted_auc": "AUC of planted", "metrics.copy_mrr": "MRR of copies"}
    titles |= {"metrics.provenance_mrr": "MRR of sources", "metrics.provenance_recall_10": "sources in first 10"}
    return _side_by_side(frame, means, look, titles)


def draw_pareto(means: pl.DataFrame, look: Look) -> Chart | None:
    """Target loss against the FLOPs of selection and training together (arXiv 2410.16208), without a pretraining that all share; and the
    front of what nothing beats in both."""
    cost = "cost.chosen_flops" if "cost.chosen_flops" in set(means["metric"]) else "cost.flops"
    loss = next((metric for metric in (AFTER, TRAINED, BEFORE) if metric in set(means["metric"])), None)
    if loss is None:
        return None
    parts = [means.filter(pl.col("metric") == metric).select("group", "series", "x_text", pl.col("mean").alias(name), "sd")
             for metric, name in ((loss, "loss"), (cost, "flops"))]  # fmt: skip
    wide = parts[0].join(parts[1].select("group", "flops"), on="group", how="inner", maintain_order="left").filter(pl.col("flops") > 0)
    if len(wide) < 2 or wide["flops"].n_unique() < 2:
        return None
    sd = pl.col("sd").fill_null(0)
    wide = wide.with_columns((pl.col("flops") / 1e12).alias("tflops"), low=pl.col("loss") - sd, high=pl.col("loss") + sd).drop("sd")
    front = wide.sort("flops", "loss").filter(pl.col("loss") == pl.col("loss").cum_min()).unique("loss", keep="first", maintain_order=True)
    x = alt.X(
        "tflops:Q", title="TFLOPs of selection and training", scale=alt.Scale(type="log", nice=False, padding=20), axis=alt.Axis(grid=False)
    )
    y = alt.Y("loss:Q", title=f"target loss {NATS}", scale=alt.Scale(zero=False, padding=10))
    base = alt.Chart(wide).encode(x=x, color=look.colour())
    tips = [alt.Tooltip("group:N", title="setting"), alt.Tooltip("tflops:Q", format=".3g"), alt.Tooltip("loss:Q", format=".4f")]
    step = alt.Chart(front).mark_line(strokeDash=[5, 4], color="#888", interpolate="step-after").encode(x=x, y=y)
    layers = [
        step,
        base.mark_line(strokeWidth=1.5, opacity=0.5).encode(y=y, detail="series:N"),
        base.mark_rule(opacity=0.5).encode(
            y=alt.Y("low:Q", title=f"target loss {NATS}", scale=alt.Scale(zero=False, padding=10)), y2="high:Q"
        ),
        base.mark_point(size=80, filled=True, opacity=1).encode(y=y, shape=look.shape(), tooltip=tips),
    ]
    return finish(alt.layer(*layers).properties(width=680, height=380))


def draw_masking(masking: pl.DataFrame, look: Look) -> Chart | None:
    """What online selection dropped over the steps, and how much of the planted noise that was."""
    titles = {"masked_share": "share of the tokens masked", "mask_auc": "AUC of the mask", "mask_precision": "precision of the mask"}
    titles |= {"mask_recall": "recall of the mask"}
    drawn = [panel for column, title in titles.items() for panel in _curve_panels(masking, look, column, title, (400, 240))]
    return finish(alt.concat(*drawn, columns=2)) if drawn else None


def _side_by_side(frame: pl.DataFrame, means: pl.DataFrame, look: Look, titles: dict[str, str]) -> Chart | None:
    kept = [metric for metric in titles if metric in frame.columns and frame[metric].null_count() < len(frame)]
    size = (560, 300) if len(kept) == 1 else (400, 280) if len(kept) == 2 else (245, 220)
    if not look.x and len(kept) == 3:
        size = (210, 220)
    panels = [draw_metric(frame, means, look, metric, titles[metric], size) for metric in kept]
    drawn = [panel for panel in panels if panel is not None]
    return finish(alt.hconcat(*drawn)) if drawn else None


def draw_curves(curves: pl.DataFrame, look: Look, loss: str = "target_loss", title: str = "target loss", unit: str = NATS) -> Chart | None:
    """Loss, or another column, against steps: the mean over seeds, and a band from the lowest to the highest seed.

    Where x has more levels than there are series, a panel is a series and colours are x; otherwise the reverse.
    """
    panels = _curve_panels(curves, look, loss, f"{title} {unit}".strip())
    return finish(alt.concat(*panels, columns=3 if len(panels) > 2 else 2)) if panels else None


def _curve_panels(curves: pl.DataFrame, look: Look, loss: str, title: str, size: tuple[int, int] | None = None) -> list[Chart]:
    if curves.is_empty() or curves[loss].null_count() == len(curves):
        return []
    means = thin(mean_curves(curves, loss), ["group"]).filter(pl.len().over("group") > 1)
    if means.is_empty():
        return []
    by_x = len(look.texts) > 1 and means["series"].n_unique() <= means["x_text"].n_unique()
    panel, colour = ("series", _x_colour(look)) if by_x else ("x_text", look.colour())
    names = [name for name in (look.series if by_x else look.texts or [""]) if name in set(means[panel])]
    names += [name for name in means[panel].unique(maintain_order=True) if name not in names]
    size = size or ((680, 320) if len(names) == 1 else (400, 260) if len(names) == 2 else (250, 200))
    domain = [float(means["low"].min()), float(means["high"].max())]  # type: ignore[arg-type]
    panels = []
    for at, name in enumerate(names):
        own = means.filter(pl.col(panel) == name)
        text = title if at % (3 if len(names) > 2 else 2) == 0 else ""
        chart = _curve_panel(own, colour, domain, text).properties(width=size[0], height=size[1])
        head = name if by_x else f"{look.x_title}: {name}" if name and look.x else ""
        panels.append(chart.properties(title=head) if head else chart)
    return panels


def _x_colour(look: Look) -> alt.Color:
    last = max(len(look.texts) - 1, 1)
    places = [at * (len(VIRIDIS) - 1) / last for at in range(len(look.texts))]
    colours = [_blend(VIRIDIS[int(place)], VIRIDIS[min(int(place) + 1, len(VIRIDIS) - 1)], place % 1) for place in places]
    legend = alt.Legend(title=look.x_title, orient="top", columns=8, symbolOpacity=1)
    return alt.Color("x_text:N", sort=look.texts, scale=alt.Scale(domain=look.texts, range=colours), legend=legend)


def _blend(one: str, two: str, share: float) -> str:
    parts = [(int(one[at : at + 2], 16), int(two[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in parts)


def _curve_panel(means: pl.DataFrame, colour: alt.Color, domain: list[float], title: str) -> Chart:
    kept = means.select("series", "x_text", "group", "step", "tokens", "mean", "low", "high", "n")
    kept = kept.with_columns(pl.col("mean", "low", "high").round(6))  # a smaller page
    scale = alt.Scale(domain=domain, nice=True, zero=False)
    x = alt.X("step:Q", title="optimizer step", axis=alt.Axis(grid=False, tickCount=6), scale=alt.Scale(nice=False))
    number = [
        alt.Tooltip("mean:Q", format=".4f"),
        alt.Tooltip("low:Q", format=".4f"),
        alt.Tooltip("high:Q", format=".4f"),
    ]
    tips = [alt.Tooltip("group:N", title="setting"), "step:Q", alt.Tooltip("tokens:Q", format=",.0f"), *number]
    base = alt.Chart(kept).encode(x=x, color=colour, detail="group:N")
    faint = 0.16 if kept["group"].n_unique() <= 4 else 0.07  # many bands upon each other hide the lines
    band = base.mark_area(opacity=faint).encode(y=alt.Y("low:Q", title=title, scale=scale), y2="high:Q")
    return alt.layer(band, base.mark_line(strokeWidth=2).encode(y=alt.Y("mean:Q", title=title, scale=scale), tooltip=tips))


def draw_ranks(means: pl.DataFrame, look: Look) -> Chart | None:
    """Before against after fine-tuning: a point a group with its standard deviations, and lines from rank to rank."""
    wide = _before_after(means)
    if len(wide) < 2:
        return None
    axes = {
        "x": ("before", f"target loss before fine-tuning {NATS}"),
        "y": ("after", f"target loss after fine-tuning {NATS}"),
    }
    scale = alt.Scale(zero=False, padding=10)
    x, y = (kind(f"{axes[at][0]}:Q", title=axes[at][1], scale=scale) for at, kind in (("x", alt.X), ("y", alt.Y)))
    base = alt.Chart(wide).encode(color=look.colour())
    tips = [
        alt.Tooltip("group:N", title="setting"),
        alt.Tooltip("before:Q", format=".4f"),
        alt.Tooltip("after:Q", format=".4f"),
    ]
    layers = [
        base.mark_rule(opacity=0.6).encode(x=alt.X("before_low:Q", title=axes["x"][1], scale=scale), x2="before_high:Q", y=y),
        base.mark_rule(opacity=0.6).encode(y=alt.Y("after_low:Q", title=axes["y"][1], scale=scale), y2="after_high:Q", x=x),
        base.mark_point(size=80, filled=True, opacity=1).encode(x=x, y=y, shape=look.shape(), tooltip=tips),
    ]
    if look.x and len(wide) <= 10:
        named = alt.Chart(wide.filter(~pl.col("series").is_in(BASELINES)))  # baselines stand too close to be named
        layers.append(named.mark_text(align="left", dx=8, dy=-7, fontSize=10.5).encode(x=x, y=y, text="x_text:N"))
    scatter = alt.layer(*layers).properties(width=400, height=330)
    return finish(alt.hconcat(scatter, _slopes(wide, look)) if len(wide) <= 16 else scatter)


def _before_after(means: pl.DataFrame) -> pl.DataFrame:
    """A row for each group that has both losses: before, after, their ranks (1 = lowest) and standard deviations."""
    parts = []
    for name, metric in (("before", BEFORE), ("after", AFTER)):
        mean, sd = pl.col("mean"), pl.col("sd").fill_null(0)
        own = means.filter(pl.col("metric") == metric)
        values = {name: mean, f"{name}_low": mean - sd, f"{name}_high": mean + sd}
        parts.append(own.select("group", "series", "x_text", **values))
    wide = parts[0].join(parts[1].drop("series", "x_text"), on="group", how="inner", maintain_order="left")
    ranks = {f"{name}_rank": pl.col(name).rank("ordinal").cast(pl.Int64) for name in ("before", "after")}
    return wide.with_columns(**ranks)


def _slopes(wide: pl.DataFrame, look: Look) -> Chart:
    when = {"before_rank": "before", "after_rank": "after"}
    long = wide.unpivot(list(when), index=["group", "series"], variable_name="when", value_name="rank")
    long = long.with_columns(pl.col("when").replace_strict(when))
    axis = alt.Axis(labelAngle=0, grid=False, domain=False, ticks=False, orient="top", labelFontSize=12.5)
    x = alt.X("when:N", sort=["before", "after"], title=None, axis=axis, scale=alt.Scale(padding=0.35))
    ticks = alt.Axis(values=list(range(1, len(wide) + 1)), grid=False, domain=False, ticks=False)
    scale = alt.Scale(domain=[len(wide) + 0.5, 0.5], zero=False, nice=False)
    y = alt.Y("rank:Q", title="rank by target loss (1 = lowest)", axis=ticks, scale=scale)
    base = alt.Chart(long).encode(x=x, y=y, color=look.colour())
    right = alt.Chart(long.filter(pl.col("when") == "after")).mark_text(align="left", dx=11, fontSize=11.5, limit=230)
    return alt.layer(
        base.mark_line(strokeWidth=2.5, opacity=0.85).encode(detail="group:N"),
        base.mark_point(size=80, filled=True, opacity=1).encode(shape=look.shape()),
        right.encode(x=x, y=y, text="group:N", color=look.colour()),
    ).properties(width=250, height=330)
