"""A made-up sweep of rankings on disk, as `experiment=esm` would leave it: cells of a seed share their transfers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from made_up_cell import Kind

FILE = "transfer.parquet"
SEEDS = (0, 1)
REGRET = {"random_order": 4.0, "esm_logme": 1.0, "logme": 0.5}
MS = {"random_order": 0.001, "esm_logme": 10.0, "logme": 200.0}
BYTES = {"random_order": 0.0, "esm_logme": 66_000.0, "logme": 6_600_000.0}
# target -> source -> what it really brings beside "none", in seed 0; seed 1 adds 0.02
GAINS = {"kind": {"books": 0.10, "dvd <b>": 0.04, "cola": -0.30}, "length": {"books": 0.20, "dvd <b>": 0.00, "cola": 0.10}}
REGRESSIONS = ("length",)


def transfers(seed: int, repeats: int = 2) -> pl.DataFrame:
    """Repeats lie 0.01 around their mean."""
    rows: list[dict[str, Any]] = []
    for target, gains in GAINS.items():
        for source, gain in ({"none": 0.0} | gains).items():
            for repeat in range(repeats):
                value = 0.5 + gain + 0.02 * seed * (source != "none") + 0.01 * (2 * repeat - 1) * (repeats > 1)
                row = {"target": target, "source": source, "repeat": repeat, "performance": value, "regression": target in REGRESSIONS}
                rows.append(row)
    return pl.DataFrame(rows)


def regrets(label: str, seed: int) -> dict[str, float]:
    """Metrics of the phase regret: of classes, and of regressions."""
    own = {"regret_1": 3 * REGRET[label], "regret_3": 2 * REGRET[label], "regret_5": REGRET[label] + 0.2 * seed, "ndcg": 0.9}
    own |= {"rank_correlation": 0.5 - 0.1 * REGRET[label]}
    return own | {f"{name}_regression": 2 * value for name, value in own.items()}


def write_cell(home: Path, label: str, seed: int, metrics: dict[str, float], name: str = "esm", frame: pl.DataFrame | None = None) -> Path:
    """One `result.json` with its artifact `transfer`; returns that artifact's file."""
    kind = Kind(name, "task_scorer", "transfer", "random_order")
    return kind.write(home, label, seed, metrics, {FILE: transfers(seed) if frame is None else frame}) / FILE


def write_rankings(home: Path, seeds: tuple[int, ...] = SEEDS) -> Path:
    """The whole sweep; returns its folder."""
    brought = {"transfer_none": 0.5, "transfer_mean": 0.45, "transfer_best": 0.61, "transfer_helps": 2 / 3}
    for seed in seeds:
        for label in REGRET:
            cost = {"ms_per_source": MS[label] * (1 + seed), "bytes_per_source": BYTES[label]}
            write_cell(home, label, seed, regrets(label, seed) | cost | brought)
    return home / "sweep"
