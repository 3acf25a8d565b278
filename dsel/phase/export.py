"""Export: the chosen rows, best first, as a file of the user's."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dsel.artifact import atomic, fingerprint, remove_parts, write_atomic
from dsel.context import World
from dsel.error import InputError
from dsel.pool import ROW, Pool
from dsel.selection import Selection
from dsel.state import State

SUFFIXES = (".parquet", ".jsonl", ".csv")


@dataclass(frozen=True)
class Export:
    """Writes the selection to `output` (.parquet, .jsonl or .csv), with all columns of the source's rows plus `dsel_rank`,
    `dsel_score` and `dsel_row` (row in the source), and `<output>.json` beside it, which says how it came about.

    Neither is there before it is whole. An output that exists is an error, unless `overwrite`, or where this very run was
    killed after it had put it there.
    """

    output: str
    overwrite: bool = False

    def __post_init__(self) -> None:
        path = Path(self.output)
        if path.suffix not in SUFFIXES:
            raise InputError(f"output={self.output}: the extension must be one of {', '.join(SUFFIXES)}")
        if path.is_dir():
            raise InputError(f"output={self.output}: is a folder; give a file in it")
        place = next(folder for folder in path.absolute().parents if folder.exists())  # what is missing below is made later
        if not place.is_dir():
            raise InputError(f"output={self.output}: {place} is not a folder")
        if not os.access(place, os.W_OK | os.X_OK):
            raise InputError(f"output={self.output}: the folder {place} is not writable; give another one")

    def refuse(self, own: str | None) -> None:
        """Errors: the output exists, and is not that of a killed run of fingerprint `own`."""
        path = Path(self.output)
        record = path.with_suffix(".json")
        if self.overwrite or (own is not None and _writer(record) == own):
            return
        for file in (path, record):
            if file.exists():
                raise InputError(f"output={self.output}: {file} exists already; delete it, give another name, or set overwrite=true")

    needs_checkpoint = False  # it writes rows
    trains = False

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write the rows into the artifact. Errors: nothing is selected; a column that the format cannot hold."""
        if state.selection is None:
            raise InputError(f"phases.{world.name}: nothing is selected yet; put select before it in pipeline")
        table = chosen_rows(world.corpus.source, state.selection, world.corpus.record["facts"].get("columns"))
        path = folder / f"rows{Path(self.output).suffix}"
        with naming(self.output, path):
            _write(table, path)
        return {"exported_documents": table.num_rows}

    def read(self, state: State, world: World, folder: Path) -> State:
        """Place the file and its record; a resumed run does so again if they are gone. Errors: a full disk and the like."""
        output = Path(self.output)
        record = self._record(state, world)
        try:
            with world.store.locked(f"output-{fingerprint(str(output.absolute()))}"):
                _place(folder / f"rows{output.suffix}", output, json.dumps(record, indent=1, default=str))
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(f"output={self.output}: cannot be written ({reason}); mend that, or give another output=") from error
        return state

    def counts(self, state: State, world: World) -> dict[str, Any]:
        """Rows chosen, and read and dropped by side."""
        assert state.selection is not None
        return {"chosen": len(state.selection.units)} | {key: world.corpus.record[key] for key in ("read", "dropped", "listed")}

    def quality(self, state: State) -> dict[str, Any]:
        """What is known of the selection beside its metrics; nothing here."""
        return {}

    def _record(self, state: State, world: World) -> dict[str, Any]:
        return {
            "output": Path(self.output).name,
            **self.counts(state, world),
            "metrics": dict(state.metrics),
            **self.quality(state),
            "fingerprints": {
                "source": world.corpus.source.fingerprint,
                "target": world.corpus.target.fingerprint,
                "run": state.fingerprint,
            },
            "seconds": round(sum(float(cost.get("seconds", 0)) for cost in state.cost.values()), 3),
            "config": world.config,
        }


@contextmanager
def naming(output: str, path: Path) -> Iterator[None]:
    """Errors of writing `path`: a column that the format cannot hold; and those of the disk, which polars gives no number."""
    try:
        yield
    except (pl.exceptions.ComputeError, pa.ArrowNotImplementedError) as error:
        raise InputError(f"output={output}: {error}; write .parquet or .jsonl instead") from error
    except OSError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if error.errno is not None or number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def _writer(record: Path) -> str | None:
    """Fingerprint of the run that wrote a record; None if it is no record of ours."""
    try:
        return str(json.loads(record.read_text(encoding="utf-8"))["fingerprints"]["run"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _place(rows: Path, output: Path, record: str) -> None:
    """Both files or none: the rows are copied in full beside `output` before any of them bears its name."""
    remove_parts(output)
    remove_parts(output.with_suffix(".json"))
    with atomic(output) as temporary:
        shutil.copyfile(rows, temporary)
        write_atomic(output.with_suffix(".json"), record)


def chosen_rows(source: Pool, selection: Selection, columns: Mapping[str, str] | None) -> pa.Table:
    """The selected rows with `dsel_rank`, `dsel_score` and `dsel_row`.

    `columns` says where the user's columns stand in the pool, by their own names (None: all but ours are the user's).
    """
    if columns is None:
        columns = {name: name for name in source.table.column_names if not name.startswith("dsel_")}
    rows = source.table.take(pa.array(selection.units))
    scores = selection.scores if selection.scores is not None else np.full(len(selection.units), np.nan, np.float32)
    added = {"dsel_rank": pa.array(np.arange(len(rows))), "dsel_score": pa.array(scores), "dsel_row": rows[ROW]}
    return pa.table({name: rows[stored] for name, stored in columns.items()} | added)


def _write(table: pa.Table, path: Path) -> None:
    if path.suffix == ".parquet":
        pq.write_table(table, path)
        return
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    if path.suffix == ".jsonl":
        frame.write_ndjson(path)
    else:
        frame.write_csv(path)
