"""Rank: which source task should help the target most, by a scorer of tasks."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from dsel.context import TaskContext, World
from dsel.error import InputError
from dsel.labelled import LabelledTask, Rows, read_tasks
from dsel.phase.encoder import find_base
from dsel.phase.map_cache import MapCache, list_files
from dsel.phase.map_fitting import MapFitting
from dsel.phase.tuning import Tuning
from dsel.phase.workbench import Workbench
from dsel.progress import progress
from dsel.protocol import TaskScorer
from dsel.state import State

log = logging.getLogger("dsel")

RANKING, METRICS = "ranking.parquet", "metrics.json"
FEW_ROWS, LEAST_ROWS = 300, 20
INTERVAL = 5, 95  # percentiles of a rank
TOP = 3
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rank:
    """Scores each source task for each target task, on the rows of the selector's sample. What is kept of a source (its tuned model, its
    map) is made before, and counted apart: `ms_per_source` is what one more target takes, `bytes_per_source` what is kept.

    `num_resamples` random halves of the target's rows say between which ranks a source lies in nine of ten. `partial` leaves out a
    target of which the scorer has nothing to say; else that is an error. `maps`: a folder of maps, in which those that are fitted are put
    too, or names of repositories on the Hub; without sources, those that have a map are the sources.
    """

    scorer: TaskScorer
    tuning: Tuning
    fitting: MapFitting
    num_resamples: int = 100
    partial: bool = False
    maps: str | Sequence[str] | None = None

    needs_checkpoint = False
    trains = False

    def identity(self) -> Any:
        """The files of the maps that are given."""
        return list_files(self.maps)

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write ranking.parquet: of each target and source `rank`, `score`, `low`, `high` (ranks) and `in_top` (shares of resamples), its
        rows; and metrics.json."""
        tasks = read_tasks({"source": world.corpus.source, "target": world.corpus.target, "test": world.corpus.test})
        base = find_base(state, world)
        maps = MapCache.open(self.maps, base, world.store.root / "maps")
        sources = {name: task.check() for name, task in tasks["source"].items()} or self._of_maps(maps, world)
        bench = Workbench(base, self.tuning, self.fitting, sources, world.store, world.seed, maps)
        started, saved = time.monotonic(), world.store.saved
        sizes = self._prepare(bench)
        prepared = time.monotonic() - started + world.store.saved - saved
        rows, seconds = [], []
        for target in tasks["target"].values():
            scores, taken = self._score(bench, target.check(), world)
            if scores is not None:
                seconds.append(taken)
                rows += self._tabulate(bench, target, scores, world)
        if not rows:
            raise InputError(
                f"phases.{world.name}: {type(self.scorer).__name__} has nothing to say of any target; give another task_scorer="
            )
        _warn_of_cuts(bench)
        pl.DataFrame(rows).write_parquet(folder / RANKING)
        metrics = {"ms_per_source": 1000 * sum(seconds) / len(seconds) / len(sources), "bytes_per_source": float(np.mean(sizes))}
        (folder / METRICS).write_text(json.dumps(metrics, indent=1), encoding="utf-8")
        return {"prepared_seconds": round(prepared, 3), "ranked_sources": len(sources)}

    def read(self, state: State, world: World, folder: Path) -> State:
        """The state with what a source takes."""
        return state.with_metrics(**json.loads((folder / METRICS).read_text(encoding="utf-8")))

    def _of_maps(self, maps: MapCache, world: World) -> dict[str, LabelledTask]:
        """Sources of which there is a map, and nothing else. Errors: there are no maps, or the scorer looks at more."""
        if not maps.found:
            raise InputError(f"phases.{world.name}: there are neither sources nor maps; give sources=FOLDER_OR_HUB_LIST or maps=FOLDER")
        if tuple(self.scorer.needs) != ("map",):
            name = type(self.scorer).__name__
            raise InputError(f"phases.{world.name}: {name} looks at the sources' rows or models, and there are maps only; give sources=")
        return {name: LabelledTask(name, (), None, np.empty(0), (), ()) for name in maps.found}

    def _prepare(self, bench: Workbench) -> list[int]:
        """Bytes that are kept of each source."""
        sizes = []
        with progress("sources", len(bench.sources), "tasks") as bar:
            for name, source in bench.sources.items():
                sizes.append(sum(bench.prepare(need, source) for need in self.scorer.needs))
                bar.advance(1, name)
        return sizes

    def _score(self, bench: Workbench, target: LabelledTask, world: World) -> tuple[Floats | None, float]:
        """Scores (source,), and the seconds that they took; None where there are none."""
        if len(target) < LEAST_ROWS:
            raise InputError(
                f"task {target.name}: {len(target)} rows to rank by, of which a ranking needs {LEAST_ROWS} at least; label more"
            )
        started, saved = time.monotonic(), world.store.saved
        scores = self.scorer.score(bench.context(target))
        seconds = time.monotonic() - started + world.store.saved - saved
        if np.isfinite(scores).any():
            return scores, seconds
        if not self.partial:
            kind = "regression" if target.is_regression else "classification"
            name = type(self.scorer).__name__
            raise InputError(f"task {target.name}: {name} has no score for a {kind} target; give task_scorer=esm_logme or another")
        log.info("%s: no score for %s, which is left out", type(self.scorer).__name__, target.name)
        return None, seconds

    def _tabulate(self, bench: Workbench, target: LabelledTask, scores: Floats, world: World) -> list[dict[str, Any]]:
        ranks, sources = to_ranks(scores), list(bench.sources.values())
        drawn = self._resample(bench, target, world)
        bounds = np.percentile(drawn, INTERVAL, axis=0) if len(drawn) else np.full((2, len(ranks)), np.nan)
        in_top = (drawn <= TOP).mean(0) if len(drawn) else np.full(len(ranks), np.nan)
        if len(target) < FEW_ROWS and len(drawn):
            best = int(np.argmin(ranks))
            log.warning(
                "%s: %d rows are few to rank by: in resamples of them the first, %s, has rank %.0f to %.0f, "
                "and is among the first %d in %.0f %%",
                target.name, len(target), sources[best].name, bounds[0][best], bounds[1][best], TOP, 100 * in_top[best],
            )  # fmt: skip
        found = []
        for at in np.argsort(ranks, kind="stable"):
            found.append({
                "target": target.name, "source": sources[at].name, "rank": float(ranks[at]), "score": float(scores[at]),
                "low": float(bounds[0][at]), "high": float(bounds[1][at]), "in_top": float(in_top[at]), "source_rows": len(sources[at]),
                "target_rows": len(target), "regression": target.is_regression,
            })  # fmt: skip
        return found

    def _resample(self, bench: Workbench, target: LabelledTask, world: World) -> Floats:
        """Ranks (resample, source) on random halves of the target's rows, whose means spread as those of bootstrap samples do: repeated
        rows would look to LogME like labels without noise."""
        rng = np.random.default_rng(world.phase_seed("resample"))
        drawn: list[Floats] = []
        if "fisher" in self.scorer.needs:  # which is of all rows at once
            return np.array(drawn)
        base = cache(lambda: bench.embed(target))  # from disk once for all of them

        def part(rows: Rows) -> TaskContext:
            return replace(bench.context(target, rows), base=lambda: base()[rows])

        with progress("resamples", self.num_resamples, "rankings") as bar:
            for _ in range(self.num_resamples):
                rows = np.sort(rng.permutation(len(target))[: len(target) // 2])
                if _can_rank(target, target.labels[rows]):
                    drawn.append(to_ranks(self.scorer.score(part(rows))))
                bar.advance(1)
        return np.array(drawn)


def _can_rank(target: LabelledTask, labels: npt.NDArray[Any]) -> bool:
    """Whether labels vary and, where they are classes, repeat."""
    return bool(np.ptp(labels)) and (target.is_regression or len(np.unique(labels)) < len(labels))


def to_ranks(scores: Floats) -> Floats:
    """Ranks (source,) from 1, the largest score first; those that tie share the mean of theirs, and come last without a score."""
    from scipy.stats import rankdata

    ranks: Floats = rankdata(-np.where(np.isfinite(scores), scores, -np.inf))
    return ranks


def _warn_of_cuts(bench: Workbench) -> None:
    for name, cut in bench.cut.items():
        log.warning("%s: %d rows are longer than encoder.context=%d tokens, and were cut", name, cut, bench.base.context)
