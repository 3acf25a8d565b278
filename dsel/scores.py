"""One number per unit (and target): larger = keep, always."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dsel.error import InputError
from dsel.pool import ID, ROW, Pool


@dataclass(frozen=True)
class Scores:
    """`values` (unit, target) float32 of the pool with `fingerprint`; `provenance` says who computed them and from what."""

    values: npt.NDArray[np.float32]
    fingerprint: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.dtype != np.float32:
            raise ValueError(f"scores: expected a (unit, target) float32 array, got {self.values.shape} {self.values.dtype}")

    def check(self, pool: Pool) -> Scores:
        """Errors: scores of another pool, or not finite (the first such unit is named)."""
        if self.fingerprint != pool.fingerprint or len(self.values) != len(pool):
            raise InputError(f"scores: made for pool {self.fingerprint} ({len(self.values)} units), used with {pool.fingerprint}")
        bad = np.flatnonzero(~np.isfinite(self.values).all(axis=1))
        if len(bad):
            row = pool.table.slice(int(bad[0]), 1)
            raise InputError(
                f"scorer {self.provenance.get('scorer', '?')}: {len(bad)} of {len(pool)} scores are not finite; first: "
                f"row {row[ROW][0].as_py()}, id {row[ID][0].as_py()!r}, score {self.values[bad[0]].tolist()}; "
                "leave that row out or change the scorer's options"
            )
        return self

    def save(self, folder: Path, pool: Pool) -> None:
        """Write `scores.parquet` (id, row, score or one score column a target) and `scores.json`."""
        columns = {"id": pool.table[ID], "row": pool.table[ROW]}
        width = self.values.shape[1]
        for target in range(width):
            columns["score" if width == 1 else f"score_{target}"] = pa.chunked_array([pa.array(self.values[:, target])])
        told = {"dsel": json.dumps({"pool": self.fingerprint, **self.provenance}, default=str)}  # travels with the file
        pq.write_table(pa.table(columns).replace_schema_metadata(told), folder / "scores.parquet")
        record = {"pool": self.fingerprint, "provenance": dict(self.provenance)}
        (folder / "scores.json").write_text(json.dumps(record, indent=1, default=str), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Scores:
        """Read what `save` wrote."""
        table = pq.read_table(folder / "scores.parquet")
        names = [name for name in table.column_names if name.startswith("score")]
        record = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        values = np.stack([table[name].to_numpy() for name in names], axis=1).astype(np.float32)
        return Scores(values, record["pool"], record["provenance"])
