"""What attribution left on disk: queries, the examples that helped and harmed each, and what their tokens add."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from dsel.error import InputError
from dsel.outcome import RESULT
from dsel.report.cell import read_record

EXAMPLES, QUERIES, GROUPS = "examples.parquet", "queries.parquet", "groups.parquet"
SIGNS = ("helpful", "harmful")
COLUMNS = {
    EXAMPLES: ("query", "sign", "rank", "unit", "score", "tokens", "contributions", "id", "dsel_row", "text"),
    QUERIES: ("id", "text"),
    GROUPS: ("query", "group", "units", "score"),
}


@dataclass(frozen=True)
class Side:
    """The examples of one training set: `name` of the phase that scored them."""

    name: str
    examples: pl.DataFrame
    groups: pl.DataFrame | None

    def of(self, query: int, sign: str) -> list[dict[str, Any]]:
        """The examples of a query, first first."""
        return self.examples.filter((pl.col("query") == query) & (pl.col("sign") == sign)).sort("rank").to_dicts()

    def groups_of(self, query: int) -> list[dict[str, Any]]:
        """Groups with the sum of their examples' scores, highest first."""
        if self.groups is None:
            return []
        return self.groups.filter(pl.col("query") == query).sort("score", descending=True).to_dicts()


@dataclass(frozen=True)
class Attribution:
    """What a run's folder and its artifacts hold."""

    folder: Path
    record: Mapping[str, Any]
    queries: pl.DataFrame
    sides: list[Side]

    @property
    def losses(self) -> list[str]:
        """Names of the phases whose models' losses are known, in the order of training."""
        return [name.removeprefix("loss_") for name in self.queries.columns if name.startswith("loss_")]


def read_attribution(folder: Path) -> Attribution | None:
    """What is told of the run in `folder`; None where it has no result, or attributed nothing. Errors: a file that cannot be read."""
    if not (folder / RESULT).is_file():
        return None
    record = read_record(folder / RESULT)
    places = record.get("artifacts", {})
    found = {name: folder / place for name, place in places.items() if (folder / place / EXAMPLES).is_file()}
    if not found:
        return None
    sides = [
        Side(name, _read(place / EXAMPLES), _read(place / GROUPS) if (place / GROUPS).is_file() else None) for name, place in found.items()
    ]
    return Attribution(folder, record, _read(next(iter(found.values())) / QUERIES), sides)


def _read(path: Path) -> pl.DataFrame:
    try:
        found = pl.read_parquet(path)
        found.select(COLUMNS[path.name])  # an error where one is missing
        return found
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]}); run the attribution again") from error


def to_table(attribution: Attribution) -> pl.DataFrame:
    """All examples of all queries and sides, a row each."""
    parts = [side.examples.with_columns(pl.lit(side.name).alias("side")) for side in attribution.sides]
    queries = attribution.queries.select(pl.col("id").alias("query_id"), pl.col("text").alias("query_text")).with_row_index("query")
    joined = pl.concat(parts, how="diagonal_relaxed").join(queries.with_columns(pl.col("query").cast(pl.Int32)), on="query", how="left")
    first = ["query", "query_id", "query_text", "side", "sign", "rank", "score"]
    return joined.select(*first, *(name for name in joined.columns if name not in first))
