"""The results of many sweeps as one table, a row a cell, which can be kept as parquet, filtered, tabulated and queried by SQL."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from dsel.artifact import write_atomic
from dsel.error import InputError
from dsel.outcome import RESULT
from dsel.report.cell import chosen_cost, flatten, read_cell
from dsel.report.metrics import METRICS
from dsel.report.results import spell
from dsel.report.table import Entry, Table, to_entries

PLACES = ("", "config.", "metrics.", "cost.", "overrides.")  # where a key is looked for, in this order
STORE = "results"


def read_many(folders: Sequence[Path]) -> pl.DataFrame:
    """Every cell below the folders, or in parquet files that `keep` wrote: name, label, seed, cell, fingerprint, git_commit, and
    `config.*`, `overrides.*`, `metrics.*`, `cost.*`. Errors: no result anywhere."""
    problems: list[str] = []
    frames, rows = [], []
    for folder in folders:
        stores = [folder] if folder.suffix == ".parquet" else sorted(folder.glob("*.parquet")) if folder.name == STORE else []
        frames += [_read_store(path) for path in stores]
        paths = [] if stores else sorted(folder.rglob(RESULT))
        rows += [_row(cell.record, str(cell.home)) for path in paths if (cell := read_cell(path, folder, problems))]
    if rows:
        frames.append(_frame(rows))
    if not frames:
        told = f" ({len(problems)} could not be read; first: {problems[0]})" if problems else ""
        raise InputError(
            f"no results in {', '.join(str(folder) for folder in folders)}{told}; give folders of sweeps, such as outputs/runs"
        )
    return pl.concat(frames, how="diagonal_relaxed")


def keep(folder: Path, store: Path) -> Path:
    """Write the results of the sweep in `folder` to a file of its own in the folder `store`, which `read_many` reads."""
    data = io.BytesIO()
    read_many([folder]).write_parquet(data)
    path = store / f"{folder.name}.parquet"
    write_atomic(path, data.getvalue())
    return path


def select(frame: pl.DataFrame, conditions: Sequence[str]) -> pl.DataFrame:
    """The cells that fit all of `KEY=VALUE`. Errors: no such key, no such cell."""
    for condition in conditions:
        key, equals, value = condition.partition("=")
        if not equals:
            raise InputError(f"--where {condition}: must be KEY=VALUE")
        column = find_column(frame, key)
        texts = frame[column].cast(pl.String, strict=False)
        same = texts == value
        if frame[column].dtype.is_numeric():
            same = same | (frame[column] == pl.Series([value]).cast(pl.Float64, strict=False)[0])
        if not same.fill_null(False).any():
            known = ", ".join(str(each) for each in frame[column].unique().sort().to_list()[:8])
            raise InputError(f"--where {condition}: no cell has it; {key} is {known}")
        frame = frame.filter(same.fill_null(False))
    return frame


def query(frame: pl.DataFrame, text: str) -> pl.DataFrame:
    """The answer to an SQL query on the table `results`. Errors: what polars cannot read."""
    try:
        return pl.SQLContext(results=frame).execute(text, eager=True)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{str(error).splitlines()[0]}; columns are {', '.join(frame.columns[:12])} ...") from error


def find_column(frame: pl.DataFrame, key: str) -> str:
    """The column that a user means by `key`. Errors: none."""
    for place in PLACES:
        if f"{place}{key}" in frame.columns:
            return f"{place}{key}"
    import difflib

    known = {column.split(".", 1)[-1] if column.startswith(PLACES[1:]) else column for column in frame.columns}
    close = difflib.get_close_matches(key, sorted(known), n=1)
    hint = f"did you mean {close[0]}?" if close else "python -m dsel.sweep sql FOLDER 'SELECT * FROM results LIMIT 1' shows all"
    raise InputError(f"{key}: no cell has such a key; {hint}")


def make_table(frame: pl.DataFrame, keys: Sequence[str] = (), metrics: Sequence[str] = (), columns: str | None = None) -> Table:
    """A row for each combination of `keys`: number of seeds, mean ± sd of each metric; or a column for each value of the key `columns`."""
    chosen = {key: find_column(frame, key) for key in keys} or {_short(column): column for column in _varying(frame)}
    across = None if columns is None else find_column(frame, columns)
    measured = [find_column(frame, metric) for metric in metrics] or _known_metrics(frame)
    if not measured:
        raise InputError("the cells have no metric in common with a report; give --metrics")
    groups = frame.group_by(list(chosen.values()), maintain_order=True).agg(pl.len(), n=pl.col("seed").n_unique())
    told = {title: [Entry(spell(column, value)) for value in groups[column]] for title, column in chosen.items()}
    counted = {"seeds": [Entry(str(n)) for n in groups["n"]]}
    if (groups["n"] != groups["len"]).any():
        counted["cells"] = [Entry(str(n)) for n in groups["len"]]
    rows = groups.select(chosen.values()).rows()
    if across is None:
        values = {_title(metric): _column(frame, list(chosen.values()), rows, metric) for metric in measured}
    else:
        levels = frame[across].unique(maintain_order=True).to_list()
        parts = {spell(across, level) or "null": frame.filter(pl.col(across).eq_missing(pl.lit(level))) for level in levels}
        values = {level: _column(part, list(chosen.values()), rows, measured[0]) for level, part in parts.items()}
    entries = told | counted | values
    return Table(list(entries), [list(row) for row in zip(*entries.values(), strict=True)], len(told))


def _column(frame: pl.DataFrame, keys: list[str], rows: Sequence[tuple[Any, ...]], metric: str) -> list[Entry]:
    decimals, better = next(((decimals, better) for name, _, decimals, better in METRICS if name == metric), (3, None))
    means = frame.drop_nulls(metric).group_by(keys).agg(mean=pl.col(metric).mean(), sd=pl.col(metric).std(ddof=1))
    return to_entries({row[:-2]: (row[-2], row[-1]) for row in means.iter_rows()}, rows, decimals, better)


def _varying(frame: pl.DataFrame) -> list[str]:
    """What tells the cells apart: the experiment, the label, and what was overridden, where there are several."""
    overrides = [column for column in frame.columns if column.startswith("overrides.") and column != "overrides.seed"]
    candidates = ["name", "label", *overrides]
    found = [column for column in candidates if frame[column].n_unique() > 1]
    spelt = [column for column in found if column in ("name", "label") or not _spells_label(frame, column)]
    return spelt or ["label"]


def _spells_label(frame: pl.DataFrame, column: str) -> bool:
    """Whether each label has one value of `column`: `arm=cds` says no more than the label."""
    return bool(frame.group_by("name", "label").agg(pl.col(column).n_unique())[column].max() == 1)


def _known_metrics(frame: pl.DataFrame) -> list[str]:
    return [name for name, *_ in METRICS if name in frame.columns and frame[name].null_count() < len(frame)]


def _title(metric: str) -> str:
    return next((title for name, title, *_ in METRICS if name == metric), _short(metric))


def _short(column: str) -> str:
    head, _, tail = column.partition(".")
    return tail if head in ("config", "metrics", "cost", "overrides") else column


def _read_store(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error


def _row(record: Mapping[str, Any], home: str) -> dict[str, Any]:
    """A cell's values by column, nested mappings spelt out with dots."""
    row: dict[str, Any] = {key: record.get(key) for key in ("name", "label", "seed", "fingerprint", "git_commit")} | {"cell": home}
    for part in ("config", "overrides", "metrics", "cost"):
        row |= {f"{part}.{key.lstrip('+~')}": value for key, value in flatten(record.get(part) or {})}
    chosen = chosen_cost((record.get("cost") or {}).get("phases") or {})
    return row | {f"cost.{key}": value for key, value in chosen.items()}


def _frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Columns of numbers are numbers, all others text."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pl.DataFrame([_series(name, [row.get(name) for row in rows]) for name in names])


def _series(name: str, values: list[Any]) -> pl.Series:
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return pl.Series(name, values, pl.Null)  # of another sweep it may be a number
    if kinds == {int}:
        return pl.Series(name, values, pl.Int64)
    if kinds <= {int, float}:
        return pl.Series(name, values, pl.Float64, strict=False)
    texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return pl.Series(name, texts, pl.String)
