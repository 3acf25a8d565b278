"""A made-up sweep of estimators on disk, as `experiment=gradex_estimate` would leave it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

ERROR = {"gradex": 0.02, "representation_cosine": 0.4}


def write_cell(home: Path, label: str, seed: int, metrics: dict[str, float], phase: str, frame: pl.DataFrame, file: str) -> None:
    """One `result.json` with the artifact of a phase."""
    artifact, cell = home / "artifacts" / f"{phase}-{label}-{seed}", home / "sweep" / f"arm={label}" / f"seed={seed}"
    artifact.mkdir(parents=True)
    cell.mkdir(parents=True)
    frame.write_parquet(artifact / file)
    record: dict[str, Any] = {
        "name": "gradex_estimate", "label": label, "seed": seed, "fingerprint": f"{label}{seed}",
        "overrides": {"arm": label, "seed": seed}, "metrics": metrics, "cost": {"seconds": 1.0, "phases": {}}, "config": {},
        "versions": {}, "git_commit": "0", "artifacts": {phase: f"../../../artifacts/{artifact.name}"},
        "report": {"question": "?", "claim": "!", "x": None, "by": "label", "baseline": "representation_cosine"},
    }  # fmt: skip
    (cell / "result.json").write_text(json.dumps(record))


def write_estimates(home: Path) -> Path:
    """Two estimators, two seeds: one near the truth, and one that only orders subsets; returns the sweep's folder."""
    for seed in (0, 1):
        truth = np.random.default_rng(seed).uniform(1, 2, 30)
        for label, error in ERROR.items():
            estimate = truth * (1 + error) if label == "gradex" else -truth
            metrics = {"spearman": 0.9 if label == "gradex" else -1.0, "spread": 0.1}
            metrics |= {"relative_error": error + 0.001 * seed, "speedup": 40.0 + seed, "lds": 0.5} if label == "gradex" else {}
            frame = pl.DataFrame({"estimate": estimate, "truth": truth, "truth_test": truth, "tasks": [["a"]] * 30})
            write_cell(home, label, seed, metrics, "judge", frame, "judged.parquet")
    return home / "sweep"
