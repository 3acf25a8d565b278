"""Preconditioned queries on disk, and at low rank."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.torch import load_file, save_file

from dsel.error import InputError
from dsel.functional.inverse_curvature import InverseCurvature, Report
from dsel.functional.kronecker import Kronecker
from dsel.pool import Pool

if TYPE_CHECKING:
    import torch

    from dsel.functional.curvature import Vectors

VECTORS, REPORTS = "vectors.safetensors", "reports.json"


def check_options(sample: int, rank: int | None = None) -> None:
    """Errors: options of a scorer that are out of range."""
    if sample < 1:
        raise InputError(f"scorer.sample={sample}: must be at least 1")
    if rank is not None and rank < 1:
        raise InputError(f"scorer.rank={rank}: must be at least 1, or null")


def some_of(pool: Pool, count: int) -> Pool:
    """At most `count` units, by a fixed draw from their ids: the order of the pool does not matter."""
    from dsel.functional.ranking import keyed_uniform

    if len(pool) <= count:
        return pool
    return pool.take(np.sort(np.argsort(keyed_uniform(pool.ids(), 0), kind="stable")[:count]))


def save_vectors(vectors: Vectors, reports: list[Report], folder: Path) -> None:
    """Write vectors, and how well their systems were solved."""
    save_file({name: value.contiguous() for name, value in vectors.items()}, folder / VECTORS)
    (folder / REPORTS).write_text(json.dumps([asdict(report) for report in reports], indent=1), encoding="utf-8")


def load_vectors(folder: Path, device: torch.device, where: str, scale: float) -> Vectors:
    """What was written, times `scale`. What did not converge is said again."""
    for report in json.loads((folder / REPORTS).read_text(encoding="utf-8")):
        Report(**{**report, "residuals": tuple(report["residuals"])}).warn(where)
    return {name: value.to(device) * scale for name, value in load_file(folder / VECTORS).items()}


def leading(inverse: InverseCurvature, rank: int, solved: Vectors | None = None) -> Kronecker:
    """The part of it that low rank goes by, for vectors that are `solved` or for any. Errors: it has no factors."""
    if not isinstance(inverse, Kronecker):
        raise InputError(f"scorer.rank={rank}: low rank goes by the factors of curvature=ekfac; set that, or scorer.rank=null")
    return inverse.leading(rank, solved)
