"""The one LightningModule: weighted token losses in, a step out. It decides nothing about data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch

from dsel.error import InputError
from dsel.functional.schedule import multiplier
from dsel.protocol import Losses, Weigh
from dsel.training.mask_record import MaskRecord
from dsel.training.sharded import clip_norm, is_sharded, load_optimizer_state
from dsel.training.step import Step

MakeOptimizer = Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Online:
    """An online selector at work: what weighs the steps, and what the weighted loss is divided by."""

    weigh: Weigh
    normaliser: str


class LossModule(pl.LightningModule):
    """Trains `model` on the mean loss per predicted token, with the schedule of the whole run from `start_step` on."""

    def __init__(
        self,
        model: torch.nn.Module,
        objective: Losses,
        make_optimizer: MakeOptimizer,
        schedule: Callable[[int], float],
        start_step: int = 0,
        optimizer_state: Mapping[str, Any] | None = None,
        smoothing: float = 0.0,
        online: Online | None = None,
        proximity: float = 0.0,
    ) -> None:
        super().__init__()
        self.model, self.objective = model, objective
        self.make_optimizer, self.schedule = make_optimizer, schedule
        self.start_step, self.optimizer_state, self.smoothing = start_step, optimizer_state, smoothing
        self.online, self.record = online, MaskRecord()
        self.proximity = proximity
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad} if proximity else {}
        self.anchor = {name: p.detach().clone() for name, p in trained.items()}  # where training began
        self.last_loss: torch.Tensor | None = None  # of the newest step; read when a curve point is due

    def on_fit_start(self) -> None:
        """Errors: a precision that scales losses, which products of gradients would have to take out again."""
        if self.online is not None and self.trainer.precision == "16-mixed":
            raise InputError("trainer.precision=16-mixed: online selection compares gradients; set trainer.precision=bf16-mixed or 32-true")

    def training_step(self, batch: Any, _index: int) -> torch.Tensor | None:
        """Mean loss over the batch's predicted tokens, or what an online selector makes of it; None where it drops all of them."""
        if self.online is not None:
            return self._selected(*batch)
        if self.trainer.world_size > 1:
            loss = self._shared(*batch)
        else:
            losses = self.objective.token_losses(self.model, batch, self.smoothing)
            loss = losses.sum() / self.objective.predicted(batch).sum().clamp_min(1)  # of a batch all of which is left out
            self.last_loss = loss.detach()
        return loss + self._distance() if self.proximity else loss

    def _shared(self, batch: Any, counts: bool) -> torch.Tensor:
        """This process's part of the mean over the tokens of all, times their number, since their gradients are averaged."""
        total = self.objective.token_losses(self.model, batch, self.smoothing).sum() * counts
        sums = torch.stack([total.detach().double(), self.objective.predicted(batch).sum().double() * counts])
        torch.distributed.all_reduce(sums)
        self.last_loss = sums[0] / sums[1].clamp_min(1)
        return total * (self.trainer.world_size / sums[1].clamp_min(1)).to(total.dtype)

    def _distance(self) -> torch.Tensor:
        """`proximity` times the squared distance from where training began."""
        parameters = dict(self.model.named_parameters())
        moved = [(parameters[name] - start.to(parameters[name].device)).square().sum() for name, start in self.anchor.items()]
        return self.proximity * torch.stack(moved).sum()

    def _selected(self, batch: Any, clean: Any) -> torch.Tensor | None:
        assert self.online is not None
        number, started, optimizer = self.start_step + self.global_step, time.perf_counter(), self.trainer.optimizers[0]
        step = Step(self.model, self.objective, batch, clean, number, self.smoothing, optimizer)
        weights = self.online.weigh(step)
        _check_finite(step)
        kept = step.kept(weights).sum()
        self.record.add(step, weights, time.perf_counter() - started)
        if not kept:
            self.last_loss = step.losses.detach().sum() / step.predicted.sum()
            self.record.skip(number)
            optimizer.zero_grad()  # Lightning calls its step nevertheless, which does nothing where there is no gradient
            return None
        loss = step.loss(weights, kept if self.online.normaliser == "kept" else step.predicted.sum())
        self.last_loss = loss.detach()
        return loss + self._distance() if self.proximity else loss

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """As the trainer says; by the norm of all parts where weights are in parts, which Lightning leaves to us."""
        if gradient_clip_val and gradient_clip_algorithm in (None, "norm") and is_sharded(self.trainer):
            clip_norm(self.trainer, float(gradient_clip_val))
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def configure_optimizers(self) -> Any:
        """The optimizer, with its state where a phase goes on, and the run's schedule by step."""
        optimizer = self.make_optimizer([p for p in self.model.parameters() if p.requires_grad])
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        if self.optimizer_state is not None:
            load_optimizer_state(self.trainer, optimizer, self.optimizer_state)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.schedule, last_epoch=self.start_step - 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _check_finite(step: Step) -> None:
    """Errors: losses or gradients that no selector can compare."""
    for what, values in (("the loss", step.losses), ("a gradient's alignment", step.alignment)):
        if values is not None and not bool(torch.isfinite(values).all()):
            raise InputError(f"training: {what} is not finite at step {step.number}; lower optimizer.lr or set trainer.gradient_clip_val")


def run_schedule(schedule: str, warmup: int, total: int) -> Callable[[int], float]:
    """The factor on the learning rate by step of the run."""
    return partial(multiplier, schedule=schedule, warmup=warmup, total=total)
