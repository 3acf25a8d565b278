"""A made-up sweep of estimators on disk, as `experiment=gradex_estimate` would leave it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from made_up_cell import Kind

GRADEX = Kind("gradex_estimate", "arm", "judge", "representation_cosine")
ERROR = {"gradex": 0.02, "representation_cosine": 0.4}


def write_estimates(home: Path) -> Path:
    """Two estimators, two seeds: one near the truth, and one that only orders subsets; returns the sweep's folder."""
    for seed in (0, 1):
        truth = np.random.default_rng(seed).uniform(1, 2, 30)
        for label, error in ERROR.items():
            estimate = truth * (1 + error) if label == "gradex" else -truth
            metrics = {"spearman": 0.9 if label == "gradex" else -1.0, "spread": 0.1}
            metrics |= {"relative_error": error + 0.001 * seed, "speedup": 40.0 + seed, "lds": 0.5} if label == "gradex" else {}
            frame = pl.DataFrame({"estimate": estimate, "truth": truth, "truth_test": truth, "tasks": [["a"]] * 30})
            GRADEX.write(home, label, seed, metrics, {"judged.parquet": frame})
    return home / "sweep"
