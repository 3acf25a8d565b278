"""Judge: an estimator's losses beside those of models that were really fine-tuned on the same random subsets of tasks."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dsel.context import Context, World
from dsel.error import InputError
from dsel.functional.masks import Subsets
from dsel.phase.score import make_context
from dsel.phase.train import Train
from dsel.pool import Pool
from dsel.protocol import Estimate, SubsetEstimator
from dsel.state import State
from dsel.subset import Work, fine_tune_each, total_work

METRICS, JUDGED = "metrics.json", "judged.parquet"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Judge:
    """Fine-tunes the newest model on `num_subsets` random subsets of a share `share` of the tasks, as `tune` says, and measures

    - `relative_error` of the estimated loss on the target sample, beside `spread`, the error of who always says their mean, and
      `repeat_error`, that of a second training on the same subset with its batches in another order (of `num_repeated` subsets);
    - `spearman`, `pearson` over subsets, `spearman_test` with the true loss on the target's test documents instead, and `lds`, the mean
      over the target's units of the rank correlation of their own losses (arXiv 2303.14186, equation 4);
    - `speedup`, and `speedup_flops`: of estimating `num_estimated` subsets, gradients included, over training on as many, extrapolated
      from those that were trained.

    The subsets hang on the run's seed alone: all estimators of a sweep are judged by the same trainings. `num_estimated` = 0 leaves the
    speedup out.
    """

    estimator: SubsetEstimator
    tune: Train
    num_subsets: int = 50
    share: float = 0.35
    num_estimated: int = 1000
    num_repeated: int = 5

    def __post_init__(self) -> None:
        if self.num_subsets < 3:
            raise InputError(f"phase judge: num_subsets={self.num_subsets}: a correlation needs at least 3")
        if self.num_repeated > self.num_subsets:
            raise InputError(f"phase judge: num_repeated={self.num_repeated}: there are {self.num_subsets} subsets")
        if not 0 < self.share < 1:
            raise InputError(f"phase judge: share={self.share}: must be above 0 and below 1")

    needs_checkpoint = True
    trains = False

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write metrics.json and judged.parquet: `tasks` of each subset, `estimate`, `truth`, `truth_test`."""
        from dsel.functional.correlation import relative_error
        from dsel.functional.subset_search import random_subsets

        source, target, test = (world.tokenized(pool) for pool in (world.corpus.source, world.corpus.target, world.corpus.test))
        context = make_context(self.tune, state, world, world.tokenized)
        names, _ = source.tasks()
        size = max(1, round(self.share * len(names)))
        subsets = random_subsets(len(names), size, self.num_subsets, world.seed)
        estimate = self.estimator.fit(source, target, context)
        said = estimate(subsets)
        both = _join(target, test)
        true, trained = _train(subsets, source, both, context)
        on_target, on_test = true[:, : len(target)], true[:, len(target) :].mean(1)
        metrics = _agreement(said, on_target, on_test)
        if self.num_repeated:
            again = _train(subsets[: self.num_repeated], source, both, context, repeat=1)[0][:, : len(target)]
            metrics["repeat_error"] = relative_error(again.mean(1), on_target[: self.num_repeated].mean(1))
        if self.num_estimated:
            more = random_subsets(len(names), size, self.num_estimated, world.seed + 1)
            metrics |= _speedup(estimate, _time(estimate, more), trained, self.num_subsets, len(more))
        (folder / METRICS).write_text(json.dumps(metrics, indent=1), encoding="utf-8")
        columns = {
            "tasks": pa.array([[names[task] for task in np.flatnonzero(mask)] for mask in subsets]),
            "estimate": said.mean(1),
            "truth": on_target.mean(1),
            "truth_test": on_test,
        }
        pq.write_table(pa.table(columns), folder / JUDGED)
        return {"flops": trained.flops + estimate.work.flops, "trained_subsets": self.num_subsets}

    def read(self, state: State, world: World, folder: Path) -> State:
        """The state with the metrics."""
        return state.with_metrics(**json.loads((folder / METRICS).read_text(encoding="utf-8")))


def _train(subsets: Subsets, source: Pool, target: Pool, context: Context, repeat: int = 0) -> tuple[Floats, Work]:
    """True losses (subset, unit of `target`), and what they took."""
    tuned = fine_tune_each(context.fine_tune, source, subsets, target, "judge", repeat)
    return np.stack([each.losses for each in tuned]), total_work(tuned)


def _join(first: Pool, second: Pool) -> Pool:
    columns = [name for name in first.table.column_names if name in second.table.column_names]
    table = pa.concat_tables([pool.table.select(columns) for pool in (first, second)])
    return Pool("target", table, f"{first.fingerprint}+{second.fingerprint}")


def _time(estimate: Estimate, subsets: Subsets) -> float:
    started = time.monotonic()
    estimate(subsets)
    return time.monotonic() - started


def _agreement(said: Floats, true: Floats, test: Floats) -> dict[str, float]:
    from dsel.functional.correlation import lds, pearson, relative_error, spearman

    estimate, truth = said.mean(1), true.mean(1)
    found = {"spearman": spearman(estimate, truth), "pearson": pearson(estimate, truth), "spearman_test": spearman(estimate, test)}
    if estimate.min() > 0:  # else it orders subsets, and says nothing of their losses
        found["relative_error"] = relative_error(estimate, truth)
    found["spread"] = relative_error(np.full_like(truth, truth.mean()), truth)
    return found | ({"lds": lds(said, true)[0]} if said.shape == true.shape else {})


def _speedup(estimate: Estimate, seconds: float, trained: Work, num_trained: int, num_estimated: int) -> dict[str, float]:
    """Of estimating over training as many subsets."""
    share = num_estimated / num_trained
    spent = estimate.work.seconds + seconds
    flops = estimate.work.flops + estimate.flops(num_estimated)
    found = {"speedup": trained.seconds * share / spent, "num_estimated": float(num_estimated)}
    return found | ({"speedup_flops": trained.flops * share / flops} if flops else {})
