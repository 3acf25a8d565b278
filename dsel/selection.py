"""What was chosen: units of a pool, best first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dsel.pool import ID, ROW, Pool


@dataclass(frozen=True)
class Selection:
    """`units` (selected,) indices into the pool with `fingerprint`, best first, repeats allowed.

    `scores` (selected,) are the numbers that ranked them, where there are any.
    """

    units: npt.NDArray[np.int64]
    fingerprint: str
    scores: npt.NDArray[np.float32] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of_tasks(source: Pool, tasks: Sequence[int], provenance: Mapping[str, Any]) -> Selection:
        """All units of the tasks (numbered by the order of their names), best task first."""
        names, numbers = source.tasks()
        units = np.concatenate([np.flatnonzero(numbers == task) for task in tasks]) if tasks else np.empty(0, np.int64)
        return Selection(units, source.fingerprint, None, {**provenance, "tasks": [names[task] for task in tasks]})

    def save(self, folder: Path, pool: Pool, scores: npt.NDArray[np.float32] | None = None) -> None:
        """Write `selection.parquet`: every unit of the pool with id, row, score, rank (-1: not chosen) and selected.

        `scores` (unit,) are the whole pool's, for the units that were not chosen.
        """
        rank = np.full(len(pool), -1, dtype=np.int64)
        rank[self.units[::-1]] = np.arange(len(self.units))[::-1]  # repeats keep their best rank
        columns = {"id": pool.table[ID], "row": pool.table[ROW], "rank": rank, "selected": rank >= 0}
        if scores is not None:
            columns["score"] = scores
        told = {"dsel": json.dumps({"pool": self.fingerprint, **self.provenance}, default=str)}  # travels with the file
        pq.write_table(pa.table(columns).replace_schema_metadata(told), folder / "selection.parquet")
        chosen: dict[str, Any] = {"unit": self.units}
        if self.scores is not None:
            chosen["score"] = self.scores
        pq.write_table(pa.table(chosen), folder / "units.parquet")
        record = {"pool": self.fingerprint, "provenance": dict(self.provenance)}
        (folder / "selection.json").write_text(json.dumps(record, indent=1, default=str), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Selection:
        """Read what `save` wrote."""
        table = pq.read_table(folder / "units.parquet")
        record = json.loads((folder / "selection.json").read_text(encoding="utf-8"))
        scores = table["score"].to_numpy() if "score" in table.column_names else None
        return Selection(table["unit"].to_numpy(), record["pool"], scores, record["provenance"])
