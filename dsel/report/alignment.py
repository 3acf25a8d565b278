"""How the alignments of examples spread over training, those of planted noise apart."""

from __future__ import annotations

from pathlib import Path

import altair as alt
import numpy as np
import polars as pl

from dsel.functional.alignment_histogram import EDGES, NOISE, RIGHT
from dsel.report.chart import COLOURS, Chart, finish
from dsel.report.curves import read_all
from dsel.report.results import Sweep

KINDS = {RIGHT: "right", NOISE: "planted noise"}
PARTS = ("first third of training", "second third", "last third")


def read_alignments(sweep: Sweep, phase: str, problems: list[str]) -> pl.DataFrame:
    """A row for each cell, part of training, kind and bin (its middle): `share` of the examples of that kind and part."""
    return read_all(sweep, phase, "online.parquet", _read, problems)


def _read(path: Path) -> pl.DataFrame:
    frame = pl.read_parquet(path)
    middles = (EDGES[1:] + EDGES[:-1]) / 2
    rows = []
    for number, part in enumerate(np.array_split(np.arange(len(frame)), len(PARTS))):
        for column, kind in KINDS.items():
            known = frame[part][column].drop_nulls() if column in frame.columns else pl.Series([])
            counts = np.array(known.to_list()).reshape(-1, len(middles)).sum(0)
            if counts.sum():
                rows += [(number, kind, float(at), float(share)) for at, share in zip(middles, counts / counts.sum(), strict=True)]
    schema = {"part": pl.Int64, "kind": pl.String, "alignment": pl.Float64, "share": pl.Float64}
    return pl.DataFrame(rows, schema, orient="row")


def draw_alignments(alignments: pl.DataFrame) -> Chart | None:
    """A row of panels for each method, a column for each third of training; means over seeds."""
    if alignments.is_empty():
        return None
    keys = ["group", "part", "kind", "alignment"]
    means = alignments.group_by(keys, maintain_order=True).agg(pl.col("share").mean())
    means = means.with_columns(pl.col("part").replace_strict(dict(enumerate(PARTS)), return_dtype=pl.String))
    scale = alt.Scale(domain=list(KINDS.values()), range=list(COLOURS[: len(KINDS)]))
    x = alt.X("alignment:Q", title="alignment over its root mean square", axis=alt.Axis(grid=False, tickCount=5))
    base = alt.Chart(means).encode(
        x=x, y=alt.Y("share:Q", title="share of examples", stack=None, axis=alt.Axis(format="%", tickCount=4)),
        color=alt.Color("kind:N", scale=scale, legend=alt.Legend(title=None, orient="top")),
        tooltip=["group:N", "kind:N", "alignment:Q", alt.Tooltip("share:Q", format=".1%")],
    )  # fmt: skip
    panels = base.mark_area(interpolate="step", opacity=0.35, line=True).properties(width=215, height=130)
    column = alt.Column("part:N", sort=list(PARTS), title=None)
    row = alt.Row("group:N", sort=means["group"].unique(maintain_order=True).to_list(), title=None)
    return finish(panels.facet(column=column, row=row))
