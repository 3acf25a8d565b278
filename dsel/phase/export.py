"""Export: the chosen rows, best first, as a file of the user's."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dsel.artifact import write_atomic
from dsel.error import InputError
from dsel.pool import ROW, Pool
from dsel.protocol import World
from dsel.selection import Selection
from dsel.state import State

SUFFIXES = (".parquet", ".jsonl", ".csv")


@dataclass(frozen=True)
class Export:
    """Writes the selection to `output` (.parquet, .jsonl or .csv), with all columns of the source's rows plus `dsel_rank`,
    `dsel_score` and `dsel_row` (row in the source), and `<output>.json` beside it, which says how it came about.

    Neither is there before it is whole. An output that exists is an error, unless `overwrite`.
    """

    output: str
    overwrite: bool = False

    def __post_init__(self) -> None:
        path = Path(self.output)
        if path.suffix not in SUFFIXES:
            raise InputError(f"output={self.output}: the extension must be one of {', '.join(SUFFIXES)}")
        if path.exists() and not self.overwrite:
            raise InputError(f"output={self.output}: exists already; delete it, give another name, or set overwrite=true")
        if path.parent.exists() and not path.parent.is_dir():
            raise InputError(f"output={self.output}: {path.parent} is not a folder")

    @property
    def needs_checkpoint(self) -> bool:
        """It writes rows."""
        return False

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write the rows into the artifact. Errors: nothing is selected; a column that the format cannot hold."""
        if state.selection is None:
            raise InputError(f"phases.{world.name}: nothing is selected yet; put select before it in pipeline")
        table = chosen_rows(world.corpus.source, state.selection, world.corpus.record["facts"].get("columns"))
        path = folder / f"rows{Path(self.output).suffix}"
        try:
            _write(table, path)
        except (pl.exceptions.ComputeError, pa.ArrowNotImplementedError) as error:
            raise InputError(f"output={self.output}: {error}; write .parquet or .jsonl instead") from error
        return {"exported_documents": table.num_rows}

    def read(self, state: State, world: World, folder: Path) -> State:
        """Place the file and its record; a resumed run does so again if they are gone."""
        output = Path(self.output)
        output.parent.mkdir(parents=True, exist_ok=True)
        assert state.selection is not None
        record = {
            "output": output.name,
            "chosen": len(state.selection.units),
            "read": world.corpus.record["read"],
            "dropped": world.corpus.record["dropped"],
            "listed": world.corpus.record["listed"],
            "metrics": dict(state.metrics),
            "fingerprints": {
                "source": world.corpus.source.fingerprint,
                "target": world.corpus.target.fingerprint,
                "run": state.fingerprint,
            },
            "seconds": round(sum(float(cost.get("seconds", 0)) for cost in state.cost.values()), 3),
            "config": world.config,
        }
        write_atomic(output.with_suffix(".json"), json.dumps(record, indent=1, default=str))
        handle, temporary = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
        os.close(handle)
        try:
            shutil.copyfile(folder / f"rows{output.suffix}", temporary)
            Path(temporary).chmod(0o644)
            os.replace(temporary, output)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return state


def chosen_rows(source: Pool, selection: Selection, columns: list[str] | None) -> pa.Table:
    """The selected rows with the user's `columns` (None: all but ours), `dsel_rank`, `dsel_score` and `dsel_row`."""
    names = source.table.column_names
    kept = [name for name in names if (name in columns if columns else not name.startswith("dsel_"))]
    rows = source.table.take(pa.array(selection.units))
    scores = selection.scores if selection.scores is not None else np.full(len(selection.units), np.nan, np.float32)
    added = {"dsel_rank": pa.array(np.arange(len(rows))), "dsel_score": pa.array(scores), "dsel_row": rows[ROW]}
    return pa.table({name: rows[name] for name in kept if name not in added} | added)


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
