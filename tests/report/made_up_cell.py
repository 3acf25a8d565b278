"""A made-up cell on disk, of an experiment whose phase leaves tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl


@dataclass(frozen=True)
class Kind:
    """The experiment, the key that its cells differ in, the phase whose artifact is there, and whom cells are compared with."""

    name: str
    key: str
    phase: str
    baseline: str

    def write(self, home: Path, label: str, seed: int, metrics: Mapping[str, float], frames: Mapping[str, pl.DataFrame]) -> Path:
        """One `result.json`, and an artifact with `frames` by file name; returns the artifact's folder."""
        artifact, cell = home / "artifacts" / f"{self.phase}-{label}-{seed}", home / "sweep" / f"{self.key}={label}" / f"seed={seed}"
        artifact.mkdir(parents=True)
        cell.mkdir(parents=True)
        for file, frame in frames.items():
            frame.write_parquet(artifact / file)
        record: dict[str, Any] = {
            "name": self.name, "label": label, "seed": seed, "fingerprint": f"{label}{seed}",
            "overrides": {self.key: label, "seed": seed}, "metrics": dict(metrics), "cost": {"seconds": 1.0, "phases": {}}, "config": {},
            "versions": {}, "git_commit": "0", "artifacts": {self.phase: f"../../../artifacts/{artifact.name}"},
            "report": {"question": "?", "claim": "!", "x": None, "by": "label", "baseline": self.baseline},
        }  # fmt: skip
        (cell / "result.json").write_text(json.dumps(record))
        return artifact
