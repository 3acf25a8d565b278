"""What a single ranking of source tasks left on disk: as rows of text, and as CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from dsel.error import InputError
from dsel.outcome import RESULT
from dsel.report.aggregate import pm
from dsel.report.cell import read_record

RANKING, TRANSFER = "ranking.parquet", "transfer.parquet"
NONE = "none"  # the transfer without a source
COLUMNS = {
    RANKING: ("target", "source", "rank", "score", "low", "high", "in_top", "source_rows", "target_rows", "regression"),
    TRANSFER: ("target", "source", "repeat", "performance"),
}
FEW_ROWS = 300  # below it the phase warns, too
UNITS = {
    "esm_logme": "log evidence of the target's labels under the source's map, nats a row",
    "logme": "log evidence of the target's labels under the source's model, nats a row",
    "leep": "log likelihood of the target's labels by way of the source's classes, nats a row",
    "nce": "minus the entropy of the target's labels given the source's, nats a row",
    "frozen_transfer": "accuracy, or a regression's correlation, on held-out rows of the target",
    "vocabulary_overlap": "share of common tokens, from 0 to 1",
    "text_embedding": "cosine of mean embeddings, from -1 to 1",
    "task_embedding": "cosine of Fisher informations, from 0 to 1",
    "source_size": "rows",
    "random_order": "none: all sources tie",
}


@dataclass(frozen=True)
class Target:
    """The ranking for one target, a row a source: rank, source, score, low, high, in_top, source_rows; and where the run tried the source
    performance and gain with their standard deviations over repeats (null elsewhere, and the sd for one repeat). `none` is the performance
    without a source, and its standard deviation; None where nothing was tried."""

    name: str
    rows: pl.DataFrame
    num_rows: int
    regression: bool
    none: tuple[float, float | None] | None = None
    num_repeats: int = 0

    @property
    def measure(self) -> str:
        """What the performance is."""
        return "correlation" if self.regression else "accuracy"

    @property
    def resampled(self) -> bool:
        """Whether there are intervals of ranks."""
        return self.rows["low"].null_count() < len(self.rows)

    @property
    def warnings(self) -> list[str]:
        """Why not to take the ranks at their word: few rows, or intervals that do not hold them."""
        found = []
        if self.num_rows < FEW_ROWS:
            told = "sources whose intervals overlap are not told apart; " if self.resampled else ""
            found.append(f"{self.num_rows} rows of {self.name} are few to rank by: {told}label more")
        beyond = self.rows.filter((pl.col("rank") < pl.col("low") - 0.5) | (pl.col("rank") > pl.col("high") + 0.5)).height
        if beyond:
            told = "with half of the rows the order is another, so do not trust it"
            found.append(f"{self.name}: {beyond} of {len(self.rows)} sources have a rank outside of its own interval: {told}")
        return found


@dataclass(frozen=True)
class Ranking:
    """What a run's folder, its artifact `rank` and, where it has one, its artifact `transfer` hold."""

    folder: Path
    record: Mapping[str, Any]
    targets: list[Target]

    @property
    def scorer(self) -> str:
        """The name of the task scorer, as `task_scorer=` takes it; the run's label where its configuration does not tell."""
        target = ((self.record.get("config") or {}).get("task_scorer") or {}).get("_target_") or str(self.record["label"])
        return target.split(".")[-2] if target.count(".") else target

    @property
    def unit(self) -> str:
        """What the score is and its unit; nothing for a scorer that is not one of dsel's."""
        return f" ({UNITS[self.scorer]})" if self.scorer in UNITS else ""

    def caption(self, target: Target) -> str:
        """How to read the columns of a target."""
        text = f"Score: {self.scorer}{self.unit}; larger is better."
        if target.resampled:
            text += f" Interval: ranks in 90 % of random halves of the target's {target.num_rows:,} rows."
        if target.none:
            text += f" {target.measure.capitalize()} after fine-tuning on the source, then on the target: mean ± sd over "
            text += f"{target.num_repeats} repeat{'s' * (target.num_repeats > 1)}; without a source {pm(*target.none)}."
        return text


def read_ranking(folder: Path) -> Ranking | None:
    """What is told of the run in `folder`; None where it has no result, or no ranking. Errors: a file that cannot be read."""
    if not (folder / RESULT).is_file():
        return None
    record = read_record(folder / RESULT)
    places = record.get("artifacts", {})
    if "rank" not in places:
        return None
    ranking = _read(folder / places["rank"] / RANKING)
    transfer = _read(folder / places["transfer"] / TRANSFER) if "transfer" in places else None
    parts = ranking.group_by("target", maintain_order=True)
    return Ranking(folder, record, [_target(str(name), own, transfer) for (name,), own in parts])


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path).select(COLUMNS[path.name])
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]}); run the ranking again") from error


def _target(name: str, own: pl.DataFrame, transfer: pl.DataFrame | None) -> Target:
    numbers = [pl.col(key).cast(pl.Float64).fill_nan(None) for key in ("rank", "score", "low", "high", "in_top")]
    size = pl.when(pl.col("source_rows") > 0).then("source_rows")  # 0: the source was published without its rows
    rows = own.select("source", size, *numbers).sort("rank", maintain_order=True)
    target = Target(name, rows, int(own["target_rows"][0]), bool(own["regression"][0]))
    tried = transfer.filter(pl.col("target") == name) if transfer is not None else pl.DataFrame()
    if tried.is_empty():
        return target
    value, gain = pl.col("performance"), pl.col("gain")  # of one repeat: with the same head and order
    without = tried.filter(pl.col("source") == NONE).select("repeat", none="performance")
    joined = tried.filter(pl.col("source") != NONE).join(without, on="repeat").with_columns(gain=value - pl.col("none"))
    means = joined.group_by("source").agg(value.mean(), value.std().alias("performance_sd"), gain.mean(), gain.std().alias("gain_sd"))
    rows = rows.join(means, on="source", how="left", maintain_order="left")
    none = without["none"]
    spread = float(none.std()) if len(none) > 1 else None  # type: ignore[arg-type]
    return Target(name, rows, target.num_rows, target.regression, (float(none.mean()), spread), len(none))  # type: ignore[arg-type]


def entries(target: Target) -> list[dict[str, str]]:
    """The rows of a table, as text by title; what was not measured is left out, or empty."""
    found = []
    for row in target.rows.iter_rows(named=True):
        entry = {"rank": f"{row['rank']:g}", "source": row["source"], "score": _number(row["score"])}
        if target.resampled:
            entry |= {"interval": f"{row['low']:.0f} to {row['high']:.0f}", "in first 3": f"{100 * row['in_top']:.0f} %"}
        if target.rows["source_rows"].max():
            entry["rows"] = f"{row['source_rows']:,}" if row["source_rows"] else ""
        if target.none:
            tried = row["performance"] is not None
            entry[f"{target.measure} after"] = pm(row["performance"], row["performance_sd"]) if tried else ""
            entry["gain"] = pm(row["gain"], row["gain_sd"], signed=True) if tried else ""
        found.append(entry)
    return found


def _number(score: float | None) -> str:
    """A score with four digits; words where the scorer has none."""
    if score is None or not math.isfinite(score):
        return "no score"
    return (f"{score:,.0f}" if abs(score) >= 1e4 else f"{score:.4g}").replace("-", "\N{MINUS SIGN}")


def to_csv(ranking: Ranking) -> str:
    """All targets and sources in full precision; what was not measured is empty."""
    measured = ("rank", "score", "low", "high", "in_top", "source_rows")
    tried = ("performance", "performance_sd", "gain", "gain_sd")
    parts = []
    for target in ranking.targets:
        told = {"target_rows": target.num_rows, "measure": target.measure, "none": target.none[0] if target.none else None}
        names = [name for name in tried if name in target.rows.columns]
        parts.append(
            target.rows.select(pl.lit(target.name).alias("target"), "source", *measured, *map(_constant, told, told.values()), *names)
        )
    return pl.concat(parts, how="diagonal_relaxed").write_csv()


def _constant(name: str, value: Any) -> pl.Expr:
    return pl.lit(value, pl.Float64 if name == "none" else None).alias(name)
