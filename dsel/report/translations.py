"""The sentences that cells translated, and how good they are in each domain."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import polars as pl

from dsel.report.cell import Cell
from dsel.report.chart import Chart, Look, finish
from dsel.report.results import Sweep

SENTENCES = "translations.parquet"
PARTS = {"target": "target", "pool_": "pool"}
FEWEST = 20  # sentences of a domain: the BLEU of fewer says little
Key = tuple[str, str]  # phase and part
Translations = Mapping[str, Mapping[Key, pl.DataFrame]]
"""By the folder of a cell, and by phase and part: columns tgt, hypothesis, and domain where pairs have one."""


def read_translations(sweep: Sweep, problems: list[str]) -> Translations:
    """Of every cell."""
    return {cell.folder: _read(cell, problems) for cell in sweep.cells}


def _read(cell: Cell, problems: list[str]) -> dict[Key, pl.DataFrame]:
    found = {}
    for phase in cell.record.get("artifacts", {}):
        path = (cell.artifact(phase) or cell.home) / SENTENCES
        if not path.is_file():
            continue
        try:
            frame = pl.read_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            problems.append(f"{cell.folder}: {SENTENCES} of {phase} cannot be read ({str(error).splitlines()[0]}); left out")
            continue
        for part, name in PARTS.items():
            if len(own := frame.filter(pl.col("part") == part)):
                found[phase, name] = own
    return found


def score_domains(sweep: Sweep, translations: Translations) -> pl.DataFrame:
    """A row for each cell, part and domain of its last translations: series, group, seed, part, domain, bleu."""
    from sacrebleu import BLEU

    labels = {row["cell"]: row for row in sweep.frame.select("cell", "series", "group", "seed").iter_rows(named=True)}
    rows = []
    for folder, own_translations in translations.items():
        last = {part: frame for (_, part), frame in own_translations.items()}
        for part, frame in last.items():
            if "domain" not in frame.columns:
                continue
            for (domain,), own in frame.drop_nulls("domain").group_by("domain", maintain_order=True):
                if len(own) >= FEWEST:
                    score = BLEU().corpus_score(own["hypothesis"].to_list(), [own["tgt"].to_list()]).score
                    rows.append(labels[folder] | {"part": part, "domain": str(domain), "bleu": score})
    return pl.DataFrame(rows, infer_schema_length=None)


def draw_domains(scores: pl.DataFrame, look: Look) -> Chart | None:
    """BLEU of each domain, a panel a part: means over seeds, and the seeds."""
    if scores.is_empty() or scores["domain"].n_unique() < 2:
        return None
    panels = []
    for part in [part for part in PARTS.values() if part in set(scores["part"])]:
        own = scores.filter(pl.col("part") == part)
        means = own.group_by("series", "group", "domain", maintain_order=True).agg(mean=pl.col("bleu").mean(), n=pl.len())
        y = alt.Y("domain:N", title=None, sort=sorted(own["domain"].unique()), axis=alt.Axis(grid=True, domain=False, ticks=False))
        offset = alt.YOffset("group:N", sort=look.groups)
        value = {"title": f"BLEU, {part}", "scale": alt.Scale(zero=False, nice=True, padding=6)}
        dots = alt.Chart(own).mark_circle(size=14, opacity=0.4).encode(x=alt.X("bleu:Q", **value), y=y, yOffset=offset, color=look.colour())
        tips = ["group:N", "domain:N", alt.Tooltip("mean:Q", format=".2f"), alt.Tooltip("n:Q", title="seeds")]
        large = alt.Chart(means).mark_point(size=50, filled=True, opacity=1)
        drawn = large.encode(x=alt.X("mean:Q", **value), y=y, yOffset=offset, color=look.colour(), shape=look.shape(), tooltip=tips)
        panels.append(alt.layer(dots, drawn).properties(width=360, height=alt.Step(9)))
    return finish(alt.hconcat(*panels))
