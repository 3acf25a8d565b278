"""Retrain: what really becomes of queries' losses when examples are left out of pretraining, beside what attribution said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dsel.artifact import fingerprint
from dsel.context import World
from dsel.error import InputError
from dsel.functional.blocks import IGNORE, flat_tokens
from dsel.phase.attribute import metrics_of, read_scores
from dsel.phase.queries import Asking
from dsel.phase.train import Train
from dsel.pool import TOKENS, Pool
from dsel.progress import progress
from dsel.state import State

TRUTH, LOSSES = "retrained.parquet", "losses.npy"
Floats = npt.NDArray[np.float64]
Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Retrain(Asking):
    """Trains both phases anew for each of `num_sets` random sets of the source's units that are left out, and compares the losses of the
    queries with what the scores of phase `attribution` said: the sum over what was left out.

    A set has `units` units, or the share `share` of them, or with `group` all units of one value of that column (as many sets as values).
    What is left out has no part in the loss, and everything else stays as it was: weights at the start, order, batches. The truth is the
    mean over `num_repeats` trainings with other seeds. `pretrain` and `finetune` are the phases as the run has them.

    Measured are `pearson` and `spearman` over sets of the queries' mean loss; `pearson_each` and `lds`, the means over queries of the
    correlations with each one's own (arXiv 2303.14186); with repeats `repeat_lds`, that of the first training with the mean of the others.
    """

    pretrain: Train = field(kw_only=True)
    finetune: Train = field(kw_only=True)
    attribution: str = "attribute"
    num_sets: int = 100
    units: int | None = None
    share: float | None = None
    group: str | None = None
    num_repeats: int = 1

    needs_checkpoint = True
    trains = False

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.units, self.share, self.group)) != 1:
            raise InputError(f"phase retrain: units={self.units}, share={self.share}, group={self.group}: give exactly one")
        if self.num_sets < 3:
            raise InputError(f"phase retrain: num_sets={self.num_sets}: a correlation needs at least 3")
        for key in ("units", "num_repeats"):
            if (value := getattr(self, key)) is not None and value < 1:
                raise InputError(f"phase retrain: {key}={value}: must be at least 1")
        for name in ("pretrain", "finetune"):
            if getattr(self, name).keep != "last":
                raise InputError(
                    f"phase retrain: phases.{name}.keep={getattr(self, name).keep}: trainings are compared at their ends; set keep=last"
                )
        if self.share is not None and not 0 < self.share < 1:
            raise InputError(f"phase retrain: share={self.share}: must be above 0 and below 1")

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write metrics.json and retrained.parquet: `set`, `units` left out, `query`, `predicted` and `true` rise of its loss."""
        source = world.tokenized(world.corpus.source)
        queries = self.query_pool(world)
        scores = read_scores(state, self.attribution, source, queries, world).astype(np.float64)
        masks = self._sets(source, world)
        runs = np.stack([self._losses(masks, source, queries, world, repeat) for repeat in range(self.num_repeats)])
        rises = runs[:, 1:] - runs[:, :1]  # (repeat, set, query); the first training leaves nothing out
        predicted = masks.astype(np.float64) @ scores
        metrics = agreement(predicted, rises.mean(0)) | ({} if self.num_repeats == 1 else _ceiling(rises))
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
        _write(folder / TRUTH, masks, predicted, rises.mean(0))
        return {"trained_sets": len(masks) * self.num_repeats}

    def read(self, state: State, world: World, folder: Path) -> State:
        """The state with the metrics."""
        return state.with_metrics(**metrics_of(folder))

    def _sets(self, source: Pool, world: World) -> Masks:
        """Which units are left out (set, unit)."""
        if self.group is not None:
            if self.group not in source.table.column_names:
                raise InputError(f"phases.{world.name}.group={self.group}: the pool has no such column")
            names = np.array([str(name) for name in source.table[self.group].to_pylist()])
            return np.stack([names == name for name in np.unique(names)])
        count = self.units or max(1, round((self.share or 0.0) * len(source)))
        if count > len(source):
            raise InputError(f"phases.{world.name}.units={count}: the pool has {len(source)}; set it lower")
        rng, masks = np.random.default_rng([world.seed, 7]), np.zeros((self.num_sets, len(source)), bool)
        order = np.argsort(source.ids(), kind="stable")  # the sets hang on ids, not on the order of the pool
        singles = rng.permutation(len(source)) if count == 1 else None  # no unit twice
        for number, mask in enumerate(masks):
            chosen = rng.choice(len(source), count, replace=False) if singles is None else singles[[number % len(source)]]
            mask[order[chosen]] = True
        return masks

    def _losses(self, masks: Masks, source: Pool, queries: Pool, world: World, repeat: int) -> Floats:
        """Of each query (1 + set, query), the first with nothing left out."""
        nothing = np.zeros((1, len(source)), bool)
        seeded = replace(world, seed=world.seed + 1000 * repeat)
        with progress("retrain", len(masks) + 1, "trainings") as bar:
            found = []
            for mask in np.concatenate([nothing, masks]):
                found.append(retrained_losses(self.pretrain, self.finetune, source, mask, queries, seeded))
                bar.advance(1)
        return np.stack(found)


def retrained_losses(pretrain: Train, finetune: Train, source: Pool, left_out: Masks, queries: Pool, world: World) -> Floats:
    """Mean token loss of each query (query,) after both phases without some units of the source. Both are artifacts, which all methods
    share, and the first all ways of fine-tuning."""
    nothing = np.empty(0, np.int64)
    corpus = replace(world.corpus, source=without(source, left_out), validation=world.corpus.validation.take(nothing),
                     holdout=world.corpus.holdout.take(nothing))  # fmt: skip
    here = replace(world, corpus=corpus)
    origin = fingerprint(source.fingerprint, left_out.tobytes().hex(), repr(pretrain), world.seed, world.tokenizer_key, repr(world.model))
    first, _ = world.store.get("repretrained", origin, lambda folder: _train(pretrain, State(""), replace(here, name="pretrain"), folder))

    def build(folder: Path) -> None:
        from dsel.functional.likelihood import document_losses
        from dsel.training.checkpoint import WEIGHTS, load_model

        assert world.model is not None
        _train(finetune, State("").with_checkpoint("pretrain", first), replace(here, name="finetune"), folder)
        losses, counts = document_losses([load_model(folder)], world.objective, queries.table, world.model.context)
        np.save(folder / LOSSES, losses[:, 0] / np.maximum(counts, 1))
        shutil.rmtree(folder / WEIGHTS)

    folder, _ = world.store.get("retrained", fingerprint(origin, repr(finetune), queries.fingerprint), build)
    found: Floats = np.load(folder / LOSSES)
    return found


def _train(phase: Train, state: State, world: World, folder: Path) -> None:
    """Of what a phase leaves, the model."""
    from dsel.training.checkpoint import OPTIMIZER

    replace(phase, every=max(1, phase.total_steps), snapshots=0).run(state, world, folder)
    (folder / OPTIMIZER).unlink(missing_ok=True)  # adapters leave none


def without(pool: Pool, left_out: Masks) -> Pool:
    """The pool, in which these units' tokens are none that is predicted: batches and their order stay the same."""
    flat, offsets = flat_tokens(pool.table[TOKENS])
    values = np.where(np.repeat(left_out, np.diff(offsets)), IGNORE, flat.astype(np.int32)).astype(np.int32)
    column = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values))
    names = pool.table.column_names
    return Pool(pool.name, pool.table.set_column(names.index(TOKENS), TOKENS, column), f"{pool.fingerprint}-masked")


def agreement(predicted: Floats, true: Floats) -> dict[str, float]:
    """Correlations over sets of predicted and true rises (set, query)."""
    from dsel.functional.correlation import lds, pearson, spearman

    each = np.array([pearson(*pair) for pair in zip(predicted.T, true.T, strict=True)])
    score, left_out = lds(predicted, true)
    found = {
        "pearson": pearson(predicted.mean(1), true.mean(1)),
        "spearman": spearman(predicted.mean(1), true.mean(1)),
        "pearson_each": float(np.nanmean(each)) if np.isfinite(each).any() else float("nan"),
        "lds": score,
    }
    return found | ({"queries_without_lds": float(left_out)} if left_out else {})


def _ceiling(rises: npt.NDArray[np.float64]) -> dict[str, float]:
    """How well one training says what the others do."""
    from dsel.functional.correlation import lds, spearman

    first, others = rises[0], rises[1:].mean(0)
    return {"repeat_lds": lds(first, others)[0], "repeat_spearman": spearman(first.mean(1), others.mean(1))}


def _write(path: Path, masks: Masks, predicted: Floats, true: Floats) -> None:
    count, num_queries = predicted.shape
    columns = {
        "set": np.repeat(np.arange(count), num_queries),
        "left_out": np.repeat(masks.sum(1), num_queries),
        "query": np.tile(np.arange(num_queries), count),
        "predicted": predicted.ravel(),
        "true": true.ravel(),
    }
    pq.write_table(pa.table(columns), path)
