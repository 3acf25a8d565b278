"""Write: the chosen rows of a stream, best first, as a file of the user's; never more of them in memory than a part."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dsel.context import World
from dsel.error import InputError
from dsel.phase.appraise import QUALITY
from dsel.phase.choose import CHOSEN, RECORD
from dsel.phase.export import Export, naming
from dsel.pool import NAME, ROW, read_table, write_table
from dsel.protocol import Stream
from dsel.state import State
from dsel.stream import PoolStream

PART_BYTES = 1 << 28  # of rows that are put in order at a time
SPILL_BYTES = 1 << 26  # of rows that go to disk together
RANK = "dsel_rank"


@dataclass(frozen=True)
class Write(Export):
    """Writes the chosen documents' rows as `Export` does, from the source's files: each that holds one is read once more."""

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write the rows into the artifact. Errors: a column that the format cannot hold, a file that has changed."""
        chosen = read_table(state.artifacts["select"] / CHOSEN)
        order = np.argsort(chosen["piece"].to_numpy(), kind="stable")
        piece = chosen["piece"].to_numpy()[order]
        items = [rows for rows in np.split(order, np.flatnonzero(np.diff(piece)) + 1) if len(rows)]
        with_file = len({p.path for p in world.stream.pieces}) > 1
        spill = Spill(folder, chosen.num_rows)
        for tables in world.executor.map(Pick(world.stream, chosen, with_file), items, [len(i) for i in items], world.name, "documents"):
            for table in tables:
                spill.add(table)
        spill.flush()
        path = folder / f"rows{Path(self.output).suffix}"
        with naming(self.output, path):
            _write(spill.parts(), spill.schema(), path)
        spill.remove()
        return {"exported_documents": chosen.num_rows}

    def counts(self, state: State, world: World) -> dict[str, Any]:
        """Rows read and dropped by side, as the scan counted them for the source."""
        source = json.loads((state.artifacts["select"] / RECORD).read_text(encoding="utf-8"))
        record = world.corpus.record
        if isinstance(world.stream, PoolStream):  # what was read is what the corpus was made of
            source = {"read": record["read"]["source"], "dropped": record["dropped"]["source"], "listed": []}
        return {
            "chosen": int(state.metrics["selected_documents"]),
            "read": {"source": source["read"], "target": record["read"]["target"]},
            "dropped": {"source": source["dropped"], "target": record["dropped"]["target"]},
            "listed": [*source["listed"], *record["listed"]],
        }

    def quality(self, state: State) -> dict[str, Any]:
        """What an appraise phase named quality found, if there was one."""
        path = state.artifacts["quality"] / QUALITY if "quality" in state.artifacts else None
        return {"quality": json.loads(path.read_text(encoding="utf-8"))} if path and path.is_file() else {}


@dataclass(frozen=True)
class Pick:
    """The chosen rows of one piece, with all columns as the user gave them, and rank, score and row in the source."""

    stream: Stream
    chosen: pa.Table
    with_file: bool

    def __call__(self, which: npt.NDArray[np.int64]) -> list[pa.Table]:
        """`which` rows of `chosen` are of one piece. Errors: the piece holds other texts than those that were scored."""
        wanted = self.chosen.take(pa.array(which)).sort_by("row")
        piece = self.stream.pieces[wanted["piece"][0].as_py()]
        found, first = [], 0
        for table in self.stream.rows(piece, wanted["row"].to_numpy()):
            told = wanted.slice(first, table.num_rows)
            first += table.num_rows
            if not np.array_equal(table[NAME].to_numpy(), told["name"].to_numpy()):
                raise InputError(f"{piece.path}: changed after it was scored: other texts stand in rows that were chosen; run again")
            added = {RANK: told["rank"], "dsel_score": told["score"], ROW: table[ROW] if ROW in table.column_names else told["place"]}
            if self.with_file:
                added["dsel_file"] = pa.array([piece.path] * told.num_rows, pa.string())
            given = table.drop_columns([name for name in (NAME, ROW) if name in table.column_names])
            found.append(pa.table(dict(zip(given.column_names, given.columns, strict=True)) | added))
        return found


class Spill:
    """Rows that come in any order, on disk, to be read in the order of their ranks a part at a time."""

    def __init__(self, folder: Path, num_rows: int) -> None:
        self.folder, self.num_rows = folder, num_rows
        self.schemas: list[pa.Schema] = []
        self.files: list[Path] = []
        self.num_bytes = 0
        self.held: list[pa.Table] = []  # of one schema: few rows of each of many pieces do not make as many files

    def add(self, table: pa.Table) -> None:
        """Put rows on disk, or hold them until there are more."""
        table = table.replace_schema_metadata(None)
        is_new = not self.schemas or table.schema != self.schemas[-1]
        if is_new or sum(held.nbytes for held in self.held) > SPILL_BYTES:
            self.flush()
        self.held.append(table)
        self.schemas += [table.schema] if is_new else []
        self.num_bytes += table.nbytes

    def flush(self) -> None:
        """Put what is held on disk, sorted by rank."""
        if self.held:
            self.files.append(self.folder / f"spill-{len(self.files)}.arrow")
            write_table(pa.concat_tables(self.held).sort_by(RANK), self.files[-1])
            self.held = []

    def schema(self) -> pa.Schema:
        """That all rows fit. Errors: types that do not go together."""
        kinds: dict[str, list[pa.DataType]] = {}
        for schema in dict.fromkeys(self.schemas):
            for field in schema:
                kinds.setdefault(field.name, []).append(field.type)
        return pa.schema([(name, _common(name, list(dict.fromkeys(found)))) for name, found in kinds.items()])

    def parts(self) -> Iterator[pa.Table]:
        """All rows in the order of their ranks, about `PART_BYTES` at a time."""
        schema = self.schema()
        tables = [read_table(path) for path in self.files]
        ranks = [table[RANK].to_numpy() for table in tables]
        num_parts = max(1, -(-self.num_bytes // PART_BYTES))
        bounds = np.linspace(0, self.num_rows, num_parts + 1).round().astype(np.int64)
        for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            cuts = [(int(np.searchsorted(r, first)), int(np.searchsorted(r, last))) for r in ranks]
            slices = [table.slice(a, b - a) for table, (a, b) in zip(tables, cuts, strict=True) if b > a]
            if slices:
                yield pa.concat_tables([_fit(part, schema) for part in slices]).sort_by(RANK).combine_chunks()

    def remove(self) -> None:
        """Delete what was put on disk."""
        for path in self.files:
            path.unlink()


def _common(name: str, kinds: list[pa.DataType]) -> pa.DataType:
    """A type for all values of a column: a string where they are plain and nothing else will do, as for numbers of CSV and JSON."""
    try:
        return pa.unify_schemas([pa.schema([(name, kind)]) for kind in kinds], promote_options="permissive").field(0).type
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        if any(pa.types.is_nested(kind) for kind in kinds):
            said = " and ".join(str(kind) for kind in kinds[:3])
            raise InputError(f"source: column {name!r} holds {said}; give it one type in all files, or take it out") from error
        return pa.string()


def _fit(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the columns of `schema`, null where it has none."""
    columns = [table[f.name].cast(f.type) if f.name in table.column_names else pa.nulls(table.num_rows, f.type) for f in schema]
    return pa.table(columns, schema=schema)


def _write(parts: Iterator[pa.Table], schema: pa.Schema, path: Path) -> None:
    """All parts into one file. Polars writes the lines: pyarrow has no writer for JSON."""
    names = [n for n in schema.names if not n.startswith("dsel_")] + [n for n in schema.names if n.startswith("dsel_")]
    if path.suffix == ".parquet":
        with pq.ParquetWriter(path, pa.schema([schema.field(name) for name in names])) as writer:
            for part in parts:
                writer.write_table(part.select(names))
        return
    with path.open("wb") as file:
        for number, part in enumerate(parts):
            frame = pl.from_arrow(part.select(names))
            assert isinstance(frame, pl.DataFrame)
            if path.suffix == ".jsonl":
                frame.write_ndjson(file)
            else:
                frame.write_csv(file, include_header=number == 0)
