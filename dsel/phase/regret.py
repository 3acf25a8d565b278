"""Regret: how good a ranking of sources is, by what each of them really brought."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dsel.context import World
from dsel.error import InputError
from dsel.phase.rank import RANKING
from dsel.phase.transfer import NONE, TRANSFER
from dsel.state import State

METRICS, BY_TARGET = "metrics.json", "regret.parquet"


@dataclass(frozen=True)
class Regret:
    """Regret@k for each k of `ks`, in percent, NDCG and Spearman's rank correlation, means over targets (arXiv 2410.15148); those of
    regressions apart, under names that end in `_regression`. The best may be no transfer at all."""

    ks: Sequence[int] = (1, 3, 5)

    needs_checkpoint = False
    trains = False

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write regret.parquet, a row a target, and metrics.json. Errors: no ranking, or not all transfers."""
        ranking, transfers = (_read(state, world, name) for name in (RANKING, TRANSFER))
        rows = [self._measure(target, own, transfers) for (target,), own in ranking.group_by("target", maintain_order=True)]
        frame = pl.DataFrame(rows)
        frame.write_parquet(folder / BY_TARGET)
        metrics: dict[str, Any] = {}
        for is_regression, suffix in ((False, ""), (True, "_regression")):
            own = frame.filter(pl.col("regression") == is_regression)
            if not own.is_empty():
                metrics |= {f"{name}{suffix}": own[name].mean() for name in own.columns if name not in ("target", "regression")}
        (folder / METRICS).write_text(json.dumps(metrics, indent=1), encoding="utf-8")
        return {}

    def read(self, state: State, world: World, folder: Path) -> State:
        """The state with the metrics."""
        return state.with_metrics(**json.loads((folder / METRICS).read_text(encoding="utf-8")))

    def _measure(self, target: str, ranking: pl.DataFrame, transfers: pl.DataFrame) -> dict[str, Any]:
        from dsel.functional.correlation import spearman
        from dsel.functional.rank_measures import ndcg, regret

        own = transfers.filter(pl.col("target") == target).group_by("source", maintain_order=True).agg(pl.col("performance").mean())
        none = own.filter(pl.col("source") == NONE)["performance"].to_list()
        joined = ranking.join(own, on="source", how="left")
        if joined["performance"].null_count() or not none:
            raise InputError(f"target {target}: not all of its sources were transferred from; set phases.transfer.top=null")
        if max(joined["performance"].max(), none[0]) <= 0:
            raise InputError(f"target {target}: no transfer comes to more than 0, of which regret is a share; leave the target out")
        performance, predicted = joined["performance"].to_numpy(), -joined["rank"].to_numpy()
        found: dict[str, Any] = {"target": target, "regression": bool(ranking["regression"][0])}
        for k in self.ks:
            found[f"regret_{k}"] = regret(performance, predicted, min(k, len(performance)), none[0])
        found["ndcg"] = ndcg(performance, predicted)
        varies = np.ptp(performance) and np.ptp(predicted)
        return found | {"rank_correlation": spearman(predicted, performance) if varies else 0.0}


def _read(state: State, world: World, name: str) -> pl.DataFrame:
    folder = state.find(name)
    if folder is None:
        raise InputError(f"phases.{world.name}: needs {name}; put the phases rank and transfer before it in pipeline")
    return pl.read_parquet(folder / name)
