"""Train a model from one step of a run to another, through Lightning, and write down how it went."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from dsel.error import InputError
from dsel.progress import Progress, here, progress
from dsel.protocol import Losses, OnlineSelector
from dsel.training.mask_record import MaskRecord
from dsel.training.module import LossModule, MakeOptimizer, Online, run_schedule
from dsel.training.snapshots import Snapshots, snapshot_steps

Measure = Callable[[torch.nn.Module], Mapping[str, float]]
MakeTrainer = Callable[..., pl.Trainer]


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


@dataclass
class Curve(pl.Callback):
    """Measures the model every few steps, keeps the best weights where asked, and stops when it gets no better."""

    plan: Plan
    measure: Measure
    tokens_per_step: int
    bar: Progress
    rows: list[dict[str, float]] = field(default_factory=list)
    best: tuple[float, int, dict[str, torch.Tensor]] | None = None
    steps: int = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The first point: before any step."""
        self._point(pl_module, trainer, float("nan"))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """A point when due. Errors: a loss that is not finite."""
        self.steps += 1
        self.bar.advance(self.tokens_per_step)
        step = self.plan.start + self.steps
        if self.steps % self.plan.every and step != (self.plan.stop or self.plan.total):
            return
        loss = float(pl_module.last_loss)  # type: ignore[arg-type]
        if not math.isfinite(loss):
            raise InputError(f"training: the loss is {loss} at step {step}; lower optimizer.lr or set trainer.gradient_clip_val")
        self._point(pl_module, trainer, loss)

    def _point(self, module: pl.LightningModule, trainer: pl.Trainer, loss: float) -> None:
        model: torch.nn.Module = module.model  # type: ignore[assignment]
        model.eval()
        measured = dict(self.measure(model))
        model.train()
        step = self.plan.start + self.steps
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        row = {"step": step, "tokens": self.steps * self.tokens_per_step, "train_loss": loss, "learning_rate": rate}
        self.rows.append(row | measured)
        target = measured.get("target_loss", float("nan"))
        if here.report is not None and math.isfinite(target):
            here.report(self.bar.label, step, target)
        shown = {"loss": loss, "target": target}
        self.bar.note = "  ".join(f"{name} {value:.3f}" for name, value in shown.items() if math.isfinite(value))
        if self.plan.keep == "best" and math.isfinite(target) and (self.best is None or target < self.best[0]):
            self.best = (target, step, {k: v.detach().clone() for k, v in model.state_dict().items()})
        stale = self.best is not None and step - self.best[1] > (self.plan.patience or 0) * self.plan.every
        trainer.should_stop = trainer.should_stop or (self.plan.patience is not None and stale)


@dataclass(frozen=True)
class Fitted:
    """The trained model is the one that was passed in. `curve` has a row a point; `step` is that of the weights kept."""

    curve: list[dict[str, float]]
    step: int
    steps_taken: int
    optimizer_state: dict[str, Any]
    record: MaskRecord


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
) -> Fitted:
    """Train `model` in place. What is random in training (dropout) is drawn from `seed`; global random state is left alone."""
    stop = plan.total if plan.stop is None else plan.stop
    tokens = batches.batch_size * batches.context
    module = LossModule(
        model,
        objective,
        make_optimizer,
        run_schedule(plan.schedule, plan.warmup, plan.total),
        plan.start,
        optimizer_state,
        plan.smoothing,
        Online(online.begin(seed), online.normaliser) if online else None,
        plan.proximity,
    )
    with progress(label, (stop - plan.start) * tokens, getattr(batches, "unit", "tokens")) as bar, torch.random.fork_rng():
        torch.manual_seed(seed + plan.start)
        curve = Curve(plan, measure, tokens, bar)
        kept = [] if folder is None else [Snapshots(snapshot_steps(stop - plan.start, plan.num_snapshots), folder)]
        trainer = _trainer(make_trainer, max_steps=stop - plan.start, callbacks=[curve, *kept])
        data = Together(batches, clean) if online else batches
        loader = torch.utils.data.DataLoader(data, batch_size=None, sampler=range(plan.start, stop))
        model.train()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            warnings.filterwarnings("ignore", message=".*training_step. returned .None.*")  # on purpose
            trainer.fit(module, loader)
    if trainer.interrupted:
        raise KeyboardInterrupt
    if curve.best is not None:
        model.load_state_dict(curve.best[2])
    model.eval()
    state = trainer.optimizers[0].state_dict()
    return Fitted(curve.rows, curve.best[1] if curve.best else plan.start + curve.steps, curve.steps, state, module.record)


class Together(torch.utils.data.Dataset[tuple[Any, Any]]):
    """A step's batch, and the clean one that goes with it, if there is one."""

    def __init__(self, batches: Any, clean: Any) -> None:
        self.batches, self.clean = batches, clean

    def __getitem__(self, step: int) -> tuple[Any, Any]:
        return self.batches[step], None if self.clean is None else self.clean[step]


def _trainer(make_trainer: MakeTrainer, **options: Any) -> pl.Trainer:
    """A Lightning trainer that stays silent: curves and progress are ours, checkpoints are artifacts."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return make_trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
