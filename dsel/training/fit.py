"""Train a model from one step of a run to another, through Lightning, and write down how it went."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy, FSDPStrategy
from pytorch_lightning.strategies.launchers.multiprocessing import _MultiProcessingLauncher

from dsel.error import InputError
from dsel.progress import Progress, progress
from dsel.protocol import Losses, OnlineSelector, Stateful
from dsel.training.curve import Curve, Measure, nothing
from dsel.training.loop import MakeTrainer, run_loop, silent_trainer
from dsel.training.mask_record import MaskRecord
from dsel.training.midway import Midway
from dsel.training.module import LossModule, MakeOptimizer, Online, run_schedule
from dsel.training.processes import Place, Shares, together
from dsel.training.resumable import Resumable, Stop, say_where, stoppable
from dsel.training.sharded import Whole, is_sharded
from dsel.training.snapshots import FOLDER as SNAPSHOTS
from dsel.training.snapshots import Snapshots, copy_snapshots, snapshot_steps

SHARED = (DDPStrategy, FSDPStrategy)  # on several processes, which are started here and not by Lightning
APART = 1_000_003  # between the seeds of processes, which drop out other units


@dataclass(frozen=True)
class Plan:
    """Steps `start` to `stop` of a schedule over `total`; a curve point every `every` steps.

    `keep` is "last" or "best" (lowest `target_loss` of the curve; the last where none is measured). With `patience`,
    training ends after so many points without a better one. `smoothing` of the labels, in training only. `proximity` times the squared
    distance of what is trained from where it began is added to the loss. `num_snapshots` are kept on the way, the last at the end.
    """

    total: int
    start: int = 0
    stop: int | None = None
    schedule: str = "cosine"
    warmup: int = 0
    every: int = 50
    keep: str = "last"
    patience: int | None = None
    smoothing: float = 0.0
    proximity: float = 0.0
    num_snapshots: int = 0

    @property
    def end(self) -> int:
        """The step after which training stops."""
        return self.total if self.stop is None else self.stop


@dataclass(frozen=True)
class Fitted:
    """The trained model is the one that was passed in. `curve` has a row a point; `step` is that of the weights kept.

    `seconds_before` went into what was found of a training that was killed.
    """

    curve: list[dict[str, float]]
    step: int
    steps_taken: int
    optimizer_state: dict[str, Any]
    record: MaskRecord
    seconds_before: float = 0.0


@dataclass(frozen=True)
class Job:
    """What each process of a training is given."""

    model: torch.nn.Module
    objective: Losses
    batches: Any
    plan: Plan
    make_optimizer: MakeOptimizer
    make_trainer: MakeTrainer
    measure: Measure
    seed: int
    optimizer_state: Mapping[str, Any] | None
    online: OnlineSelector | None
    clean: Any
    snapshots: Path | None  # where they go
    before: Mapping[str, Any] | None  # what it goes on from


def fit(
    model: torch.nn.Module,
    objective: Losses,
    batches: Any,  # a dataset by step, as an objective makes it
    plan: Plan,
    make_optimizer: MakeOptimizer,
    make_trainer: MakeTrainer,
    measure: Measure,
    label: str,
    seed: int,
    optimizer_state: Mapping[str, Any] | None = None,
    online: OnlineSelector | None = None,
    clean: Any = None,  # such a dataset of clean data, where `online` wants it
    folder: Path | None = None,  # of snapshots
    midway: Midway | None = None,
) -> Fitted:
    """Train `model` in place. What is random in training (dropout) is drawn from `seed`; global random state is left alone.

    With `midway`, training goes on from the checkpoint that a killed one has left there, and leaves such checkpoints itself.
    """
    found = midway.newest() if midway is not None else None
    if found is not None:
        say_where(label, plan.start + found[0]["parts"]["curve"]["steps"], plan.end, found[1])
    place = None if folder is None else (folder if midway is None else midway.folder) / SNAPSHOTS
    job = Job(
        model, objective, batches, plan, make_optimizer, make_trainer, measure, seed, optimizer_state, online, clean, place,
        None if found is None else found[0],
    )  # fmt: skip
    stop, tokens = Stop(label), batches.batch_size * batches.context
    with (
        progress(label, (plan.end - plan.start) * tokens, getattr(batches, "unit", "tokens")) as bar,
        torch.random.fork_rng(devices=range(torch.cuda.device_count())),
        stoppable(stop) if midway is not None else nullcontext(),
    ):
        fitted = train(job, Place(), label, bar, midway, stop)
    if folder is not None and place is not None and midway is not None:
        copy_snapshots(place, folder / SNAPSHOTS)
    return fitted


def train(
    job: Job, place: Place, label: str = "", bar: Progress | None = None, midway: Midway | None = None, stop: Stop | None = None
) -> Fitted:
    """What each process does; all but the first without `bar` and `midway`."""
    plan, before = job.plan, job.before
    module = _module(job)
    curve = Curve(plan, job.measure, job.batches.batch_size * job.batches.context, bar)
    kept = [] if job.snapshots is None else [Snapshots(snapshot_steps(plan.end - plan.start, plan.num_snapshots), job.snapshots)]
    parts: dict[str, Stateful] = {"curve": curve, "record": module.record}
    for callback in kept:
        parts["snapshots"] = callback
    if module.online is not None and isinstance(module.online.weigh, Stateful):
        parts["online"] = module.online.weigh
    resumable = Resumable(label, midway, curve, parts, stop or Stop(), before)
    resumable.restore(job.model)
    if bar is not None:
        bar.started -= resumable.seconds_before  # its rate is that of all that is done
    at_end = Whole()
    callbacks = [curve, *kept, resumable, at_end]
    trainer = silent_trainer(job.make_trainer, place, max_steps=plan.end - curve.step, callbacks=callbacks)
    _check(job, trainer)
    if is_sharded(trainer):
        module.model = copy.deepcopy(job.model)  # it is taken apart
    torch.manual_seed(job.seed + plan.start + APART * place.rank)
    data = _data(job, trainer.world_size, place.rank)
    loader = torch.utils.data.DataLoader(data, batch_size=None, sampler=range(curve.step, plan.end))
    module.train()
    others = job if is_sharded(trainer) else replace(job, measure=nothing)  # the first measures for all
    with together(trainer, place, partial(train, others)):
        run_loop(trainer, module, loader)
    if best := curve.best[2] if curve.best is not None else at_end.weights:  # none but on the first process
        job.model.load_state_dict(best)
    job.model.eval()
    state = at_end.optimizer_state or trainer.optimizers[0].state_dict()
    step = curve.best[1] if curve.best else curve.step
    return Fitted(curve.rows, step, curve.steps, state, module.record, resumable.seconds_before)


def _module(job: Job) -> LossModule:
    """With weights and optimizer as they were before the first step of all, or as far as a killed training got."""
    plan, before = job.plan, job.before
    return LossModule(
        job.model,
        job.objective,
        job.make_optimizer,
        run_schedule(plan.schedule, plan.warmup, plan.total),
        plan.start + (before["optimizer_steps"] if before else 0),
        before["optimizer"] if before else job.optimizer_state,
        plan.smoothing,
        Online(job.online.begin(job.seed), job.online.normaliser) if job.online else None,
        plan.proximity,
    )


def _check(job: Job, trainer: pl.Trainer) -> None:
    """Errors: what needs whole batches or whole weights, where processes share them."""
    size, rows = trainer.world_size, job.batches.batch_size
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher) or (size > 1 and not isinstance(trainer.strategy, SHARED)):
        kind = type(trainer.strategy).__name__
        raise InputError(f"trainer.strategy: {kind} as Lightning starts it is not known here; set trainer.strategy=ddp, or trainer=fsdp")
    if size > 1 and job.online is not None:
        raise InputError(f"online: looks at whole batches, which {size} processes (trainer.devices) share; set trainer.devices=1")
    if rows % size:
        raise InputError(f"batch_size={rows}: cannot be shared evenly by {size} processes (trainer.devices); give a multiple of {size}")
    if is_sharded(trainer):
        for key, value in (("online", job.online), ("proximity", job.plan.proximity), ("snapshots", job.plan.num_snapshots)):
            if value:
                raise InputError(f"{key}: needs whole weights, of which trainer=fsdp holds parts; set trainer=ddp, or leave it out")


def _data(job: Job, size: int, rank: int) -> Any:
    """Of each step, what this process trains on."""
    if size > 1:
        return Shares(job.batches, rank, size)
    return Together(job.batches, job.clean) if job.online else job.batches


class Together(torch.utils.data.Dataset[tuple[Any, Any]]):
    """A step's batch, and the clean one that goes with it, if there is one."""

    def __init__(self, batches: Any, clean: Any) -> None:
        self.batches, self.clean = batches, clean

    def __getitem__(self, step: int) -> tuple[Any, Any]:
        return self.batches[step], None if self.clean is None else self.clean[step]
