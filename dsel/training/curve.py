"""What is measured while a model trains, and what hangs on it: the best weights, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch

from dsel.error import InputError
from dsel.progress import Progress, here
from dsel.training.sharded import weights, whole

if TYPE_CHECKING:
    from dsel.training.fit import Plan

Measure = Callable[[torch.nn.Module], Mapping[str, float]]


def nothing(_: torch.nn.Module) -> dict[str, float]:
    """What is measured where nobody looks."""
    return {}


@dataclass
class Curve(pl.Callback):
    """Measures the model every few steps, keeps the best weights where asked, and stops when it gets no better."""

    plan: Plan
    measure: Measure
    tokens_per_step: int
    bar: Progress | None = None  # of the process that talks to the user
    rows: list[dict[str, float]] = field(default_factory=list)
    best: tuple[float, int, dict[str, torch.Tensor]] | None = None
    steps: int = 0

    @property
    def step(self) -> int:
        """Of the run: the one after which it stands."""
        return self.plan.start + self.steps

    @property
    def is_due(self) -> bool:
        """Whether the step has a point."""
        return self.steps % self.plan.every == 0 or self.step == self.plan.end

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The first point: before any step."""
        if not self.rows:
            self._point(pl_module, trainer, float("nan"))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """A point when due. Errors: a loss that is not finite."""
        self.steps += 1
        if self.bar is not None:
            self.bar.advance(self.tokens_per_step)
        if not self.is_due:
            return
        loss = float(pl_module.last_loss)  # type: ignore[arg-type]
        if not math.isfinite(loss):
            raise InputError(f"training: the loss is {loss} at step {self.step}; lower optimizer.lr or set trainer.gradient_clip_val")
        self._point(pl_module, trainer, loss)

    def state_dict(self) -> dict[str, Any]:
        """What is known so far."""
        return {"rows": self.rows, "best": self.best, "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.rows, self.best, self.steps = state_dict["rows"], state_dict["best"], state_dict["steps"]
        if self.bar is not None:
            self.bar.done = self.steps * self.tokens_per_step

    def _point(self, module: pl.LightningModule, trainer: pl.Trainer, loss: float) -> None:
        model: torch.nn.Module = module.model  # type: ignore[assignment]
        measured = self._measured(model, trainer)
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        row = {"step": self.step, "tokens": self.steps * self.tokens_per_step, "train_loss": loss, "learning_rate": rate}
        self.rows.append(row | measured)
        target = measured.get("target_loss", float("nan"))
        if self.bar is not None and here.report is not None and math.isfinite(target):
            here.report(self.bar.label, self.step, target)
        if self.bar is not None:
            shown = {"loss": loss, "target": target}
            self.bar.note = "  ".join(f"{name} {value:.3f}" for name, value in shown.items() if math.isfinite(value))
        if self.plan.keep == "best" and math.isfinite(target) and (self.best is None or target < self.best[0]):
            self.best = (target, self.step, {name: value.detach().clone() for name, value in weights(trainer, model).items()})
        stale = self.best is not None and self.step - self.best[1] > (self.plan.patience or 0) * self.plan.every
        trainer.should_stop = trainer.should_stop or (self.plan.patience is not None and stale)

    def _measured(self, model: torch.nn.Module, trainer: pl.Trainer) -> dict[str, float]:
        """By the first process alone, which tells the others; by all of them where each holds a part of the model."""
        measured: dict[str, float] = {}
        model.eval()
        with whole(trainer) as is_shared:
            if trainer.is_global_zero or is_shared:
                measured = dict(self.measure(model))
        model.train()
        told: dict[str, float] = trainer.strategy.broadcast(measured)
        return told
