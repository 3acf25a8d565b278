"""Score: fit a scorer, map it over the pool."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dsel.artifact import Store, fingerprint, hash_module, read_record
from dsel.context import Context, Snapshot, World
from dsel.error import InputError
from dsel.features import Features, make_features
from dsel.functional.flops import FORWARD, num_parameters
from dsel.phase.fine_tune import fine_tune
from dsel.phase.train import Train
from dsel.pool import TEXT, TOKENS, Pool
from dsel.protocol import Executor, FittedScore, Scorer
from dsel.scores import Scores
from dsel.state import State

if TYPE_CHECKING:  # who trains nothing need not wait for torch and Lightning
    import torch

    from dsel.functional.projection import Projection

SHARD_SIZE = 256  # documents: many enough to be sorted by length, few enough for every core to have some


@dataclass(frozen=True)
class Scoring:
    """A phase that gives every unit a number. `tune` says with which optimizer and trainer a scorer's own models are tuned."""

    scorer: Scorer
    tune: Train

    trains = False

    @property
    def needs_checkpoint(self) -> bool:
        """Whether the scorer looks at a trained model: it does if it reads tokens."""
        return TOKENS in self.scorer.reads


@dataclass(frozen=True)
class Score(Scoring):
    """Scores the pool. `column`: what scorers take for the text, such as one side of a pair, `src` or `tgt`."""

    column: str = TEXT

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write scores.parquet and scores.json; returns scoring passes over the pool, and FLOPs: 2 x parameters x tokens a pass,
        and those of fitting."""
        tokenized = world.tokenized if self.needs_checkpoint else _as_it_is
        source, target = tokenized(world.corpus.source), tokenized(world.corpus.target)
        seen = _seen(source, self.column)
        fitted, flops = fit_scorer(self.scorer, seen, _seen(target, self.column), make_context(self.tune, state, world, tokenized))
        values = map_pool(world.executor, fitted, seen, columns_read(self.scorer, seen, world), world.name, SHARD_SIZE)
        name = type(self.scorer).__name__
        provenance = {"scorer": name, "options": repr(self.scorer), "state": state.fingerprint, "seed": world.seed}
        Scores(values, source.fingerprint, provenance).check(source).save(folder, source)
        return cost_of(self.scorer, fitted, flops, source, state)

    def read(self, state: State, world: World, folder: Path) -> State:
        """The state with the scores."""
        return replace(state, scores=Scores.load(folder))


def fit_scorer(scorer: Scorer, source: Pool, target: Pool, context: Context) -> tuple[FittedScore, float]:
    """The fitted score, and the FLOPs of fitting it; what was on disk already counts as if it was made here."""
    if TOKENS not in scorer.reads:
        return scorer.fit(source, target, context), 0.0
    from dsel.functional.meter import metered

    with metered() as meter:
        fitted = scorer.fit(source, target, context)
    return fitted, meter.flops


def cost_of(scorer: Scorer, fitted: FittedScore, flops: float, pool: Pool, state: State) -> dict[str, Any]:
    """Of scoring the pool, after `flops` of fitting."""
    passes = passes_of(scorer, fitted)
    found = {"scoring_passes": passes, "scored_documents": len(pool)}
    if not passes:
        return found | ({"flops": flops} if flops else {})
    return found | {"flops": flops + FORWARD * _num_parameters(state) * int(pool.token_counts().sum()) * passes, "fitting_flops": flops}


def passes_of(scorer: Scorer, fitted: FittedScore) -> float:
    """Over the pool, in forward passes: what the fitted score says, where that hangs on what it found, or else the scorer."""
    return float(getattr(fitted, "num_passes", getattr(scorer, "num_passes", 0.0)))


def columns_read(scorer: Scorer, source: Pool, world: World) -> list[str]:
    """The columns that the fitted score looks at; of tokens all that the model reads. Errors: one is not there."""
    found = [name for name in scorer.reads if name != TOKENS] + (list(world.objective.sides) if TOKENS in scorer.reads else [])
    for name in found:
        if name not in source.table.column_names:
            there = ", ".join(n for n in source.table.column_names if not n.startswith("dsel_"))
            raise InputError(f"scorer: the pool has no column {name!r} (columns: {there}); set scorer.column= to one of them")
    return found


def _seen(pool: Pool, column: str) -> Pool:
    """The pool with that column as its text. Errors: it has none of that name."""
    names = pool.table.column_names
    if column == TEXT:
        return pool
    if column not in names:
        raise InputError(f"score.column={column}: {pool.name} has no such column (columns: {', '.join(names)})")
    return Pool(pool.name, pool.table.set_column(names.index(TEXT), TEXT, pool.table[column]), f"{pool.fingerprint}[{column}]")


def map_pool(
    executor: Executor, fitted: FittedScore, pool: Pool, columns: Sequence[str], label: str, shard_size: int
) -> npt.NDArray[np.float32]:
    """Scores (unit, target) of the whole pool, in its order. Shards are the same for any number of workers, and so is the result."""
    table = pool.table.select(list(columns))
    shards = [table.slice(start, shard_size) for start in range(0, len(pool), shard_size)]
    return np.concatenate(list(executor.map(fitted, shards, [len(shard) for shard in shards], label, "documents")))


def make_context(train: Train, state: State, world: World, tokenized: Any) -> Context:
    """What a scorer or selector may look at in this phase."""
    return Context(
        rng=np.random.default_rng(world.phase_seed("method")),
        seed=world.seed,
        held_out=tokenized(world.corpus.validation),
        finetune=tokenized(world.corpus.finetune),
        objective=world.objective,
        load=partial(_load, state, world),
        tune=partial(_tune, train, state, world),
        tokenize=tokenized,
        tokenizer=world.tokenizer,
        model=world.model,
        fine_tune=partial(fine_tune, train, state, world),
        features=partial(_features, state, world),
        checkpoint=partial(_checkpoint, state, world),
        trained=tuple(state.checkpoints),
        snapshots=partial(_snapshots, state, world),
        pretraining=tokenized(world.corpus.source),
        keep=partial(_keep, world),
        scores=state.scores,
    )


def _features(state: State, world: World, pools: Sequence[Pool], projection: Projection) -> Features:
    start = state.checkpoint_of(None)
    if start is None or world.model is None:
        raise InputError(f"phases.{world.name}: gradients are those of a trained model; put a train phase before it in pipeline")
    load = partial(_load_to_train, state, world)
    return make_features(pools, load, world.objective, world.model.context, projection, start.name, world.store)


def _load_to_train(state: State, world: World) -> torch.nn.Module:
    from dsel.functional.gradients import unfreeze

    return unfreeze(_load(state, world))


def _as_it_is(pool: Pool) -> Pool:
    return pool


def _num_parameters(state: State) -> int:
    from dsel.training.checkpoint import load_model

    folder = state.checkpoint_of(None)
    return 0 if folder is None else num_parameters(load_model(folder))


def _checkpoint(state: State, world: World, name: str | None = None) -> Path:
    folder = state.checkpoint_of(name)
    if folder is None:
        known = ", ".join(state.checkpoints) or "none"
        asked = "a trained model; put a train phase" if name is None else f"the model of phase {name!r} (trained so far: {known}); put it"
        raise InputError(f"phases.{world.name}: the scorer looks at {asked} before it in pipeline")
    return folder


def _snapshots(state: State, world: World, name: str | None = None) -> Iterator[Snapshot]:
    from dsel.training.snapshots import load_snapshots

    return load_snapshots(_checkpoint(state, world, name))


def _keep(world: World, base: Any, name: str, options: Any, write: Callable[[Path], None]) -> Path:
    """An artifact that hangs on `base` and `options`, on the objective and on the code of curvatures."""
    key = fingerprint(base, options, repr(world.objective), hash_module("dsel.curvature"))
    return _made_once(world.store, name, key, write)


def _made_once(store: Store, name: str, key: str, write: Callable[[Path], None]) -> Path:
    """An artifact and what it cost, which counts in every run that uses it, once."""
    from dsel.functional.meter import add_flops, metered

    used_before = store.path(name, key) in store.found

    def build(folder: Path) -> Mapping[str, Any]:
        started = time.monotonic()
        with metered() as meter:
            write(folder)
        return {"seconds": time.monotonic() - started, "flops": meter.flops}

    folder, was_there = store.get(name, key, build)
    if was_there and not used_before:
        add_flops(float(read_record(folder).get("flops", 0.0)))
    return folder


def _load(state: State, world: World, name: str | None = None) -> torch.nn.Module:
    """A trained model of this run, frozen."""
    import torch

    from dsel.training.checkpoint import load_model

    model = load_model(_checkpoint(state, world, name)).requires_grad_(False)
    return model.to("cuda") if torch.cuda.is_available() else model


def _tune(
    train: Train, state: State, world: World,
    target: Pool, num_steps: int, batch_size: int, learning_rate: float, every: int, patience: int,
) -> torch.nn.Module:  # fmt: skip
    """A copy of the newest model fine-tuned on `target`, best on the held-out target; an artifact, so computed once."""
    import torch

    from dsel.functional.gradients import unfreeze
    from dsel.training.checkpoint import load_model, save_model
    from dsel.training.evaluation import losses_on
    from dsel.training.fit import Plan, fit

    assert world.model is not None
    context = world.model.context
    options = [num_steps, batch_size, learning_rate, every, patience, repr(train)]
    start = state.checkpoint_of(None)  # its name holds the fingerprint of all that made it; the scorer's own does not matter
    key = fingerprint(start.name if start else None, target.fingerprint, world.seed, options)
    plan = Plan(num_steps, warmup=math.ceil(num_steps / 20), every=every, keep="best", patience=patience)
    measure = losses_on({"target_loss": world.corpus.validation}, world, train.eval_tokens)

    def write(folder: Path) -> None:
        model = unfreeze(_load(state, world))
        batches = world.objective.batches({"target": (target, 1.0)}, context, batch_size, world.phase_seed("tune"))
        optimizer = partial(train.optimizer, lr=learning_rate)
        fit(model, world.objective, batches, plan, optimizer, train.trainer, measure, "tune", world.phase_seed("tune"))
        save_model(model, folder)

    tuned = load_model(_made_once(world.store, "tune", key, write)).requires_grad_(False)
    return tuned.to("cuda") if torch.cuda.is_available() else tuned
