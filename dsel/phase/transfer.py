"""Transfer: what fine-tuning on a source first really brings the target."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dsel.context import World
from dsel.error import InputError
from dsel.labelled import LabelledTask, read_tasks
from dsel.phase.encoder import find_base
from dsel.phase.map_fitting import MapFitting
from dsel.phase.rank import RANKING
from dsel.phase.tuning import Tuning
from dsel.phase.workbench import Workbench
from dsel.progress import progress
from dsel.state import State

TRANSFER, METRICS = "transfer.parquet", "metrics.json"
NONE = "none"  # no source: the target alone


@dataclass(frozen=True)
class Transfer:
    """Fine-tunes the base encoder on a source, then on the target's training rows, and measures accuracy, or for a regression Pearson's
    correlation, on its test rows; beside it without a source. The first `top` sources of the ranking before, or all (null), each
    `num_repeats` times with another head and order of the target's rows. Each is an artifact: what was interrupted goes on.
    """

    tuning: Tuning
    top: int | None = None
    num_repeats: int = 1

    needs_checkpoint = False
    trains = False

    def __post_init__(self) -> None:
        for key in ("top", "num_repeats"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise InputError(f"phase transfer: {key}={value}: must be 1 or more")

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write transfer.parquet: of each target, source ("none" too) and repeat the `performance`; and metrics.json."""
        corpus = world.corpus
        tasks = read_tasks({"source": corpus.source, "target": corpus.target, "test": corpus.test})
        sources = {name: task.check() for name, task in tasks["source"].items()}
        bench = Workbench(find_base(state, world), self.tuning, MapFitting(), sources, world.store, world.seed)
        jobs = list(self._jobs(tasks, state, world))
        rows = []
        with progress("transfers", len(jobs), "trainings") as bar:
            for target, name, repeat in jobs:
                source = None if name == NONE else sources[name]
                found = bench.transfer(source, tasks["target"][target].check(), tasks["test"][target], repeat)
                regression = tasks["target"][target].is_regression
                rows.append({"target": target, "source": name, "repeat": repeat, "performance": found, "regression": regression})
                bar.advance(1, f"{name} > {target} {found:.3f}")
        frame = pl.DataFrame(rows)
        frame.write_parquet(folder / TRANSFER)
        (folder / METRICS).write_text(json.dumps(_summarise(frame), indent=1), encoding="utf-8")
        return {"transfers": len(jobs)}

    def read(self, state: State, world: World, folder: Path) -> State:
        """The state with the metrics."""
        return state.with_metrics(**json.loads((folder / METRICS).read_text(encoding="utf-8")))

    def _jobs(self, tasks: Mapping[str, Mapping[str, LabelledTask]], state: State, world: World) -> Iterator[tuple[str, str, int]]:
        """Target, source or "none", repeat."""
        for target in tasks["target"]:
            if target not in tasks["test"]:
                raise InputError(f"phases.{world.name}: {target} has no test rows to measure on; raise split.test")
            for name in (NONE, *self._sources(target, list(tasks["source"]), state, world)):
                yield from ((target, name, repeat) for repeat in range(self.num_repeats))

    def _sources(self, target: str, names: Sequence[str], state: State, world: World) -> Sequence[str]:
        """Errors: the first of a ranking are asked for, and there is none."""
        if self.top is None:
            return names
        folder = state.find(RANKING)
        if folder is None:
            raise InputError(f"phases.{world.name}.top={self.top}: of what ranking? put the phase rank before it in pipeline")
        ranking = pl.read_parquet(folder / RANKING).filter(pl.col("target") == target).sort("rank", maintain_order=True)
        return ranking["source"].head(self.top).to_list()


def _summarise(frame: pl.DataFrame) -> dict[str, float]:
    """Means over targets: without a source, with the best, and the share of sources that help; regressions apart."""
    found = {}
    for is_regression, suffix in ((False, ""), (True, "_regression")):
        own = frame.filter(pl.col("regression") == is_regression)
        if own.is_empty():
            continue
        means = own.group_by("target", "source", maintain_order=True).agg(pl.col("performance").mean())
        none = means.filter(pl.col("source") == NONE).select("target", none="performance")
        joined = means.filter(pl.col("source") != NONE).join(none, on="target")
        found[f"transfer_none{suffix}"] = float(none["none"].mean())  # type: ignore[arg-type]
        if joined.is_empty():
            continue
        best = joined.group_by("target", maintain_order=True).agg(pl.col("performance").max(), pl.col("none").first())
        found[f"transfer_mean{suffix}"] = float(joined["performance"].mean())  # type: ignore[arg-type]
        found[f"transfer_best{suffix}"] = float(best["performance"].mean())  # type: ignore[arg-type]
        if own["repeat"].n_unique() > 1 and own["source"].n_unique() > 2:
            found[f"transfer_reliability{suffix}"] = _reliability(own.filter(pl.col("source") != NONE))
        found[f"transfer_helps{suffix}"] = float((joined["performance"] > joined["none"]).mean())  # type: ignore[arg-type]
    return found


def _reliability(own: pl.DataFrame) -> float:
    """Mean over targets of the rank correlation of the first repeat with the second: no ranking can be expected to agree better with
    one."""
    from dsel.functional.correlation import spearman

    found = []
    for _, part in own.group_by("target", maintain_order=True):
        first, second = (part.filter(pl.col("repeat") == repeat).select("source", "performance") for repeat in (0, 1))
        both = first.join(second, on="source")
        if len(both) > 1:
            values = both["performance"].to_numpy(), both["performance_right"].to_numpy()
            found.append(spearman(*values) if np.ptp(values[0]) and np.ptp(values[1]) else 0.0)
    return float(np.mean(found)) if found else 0.0
