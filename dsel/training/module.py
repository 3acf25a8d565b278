"""The one LightningModule: weighted token losses in, a step out. It decides nothing about data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch

from dsel.functional.schedule import multiplier
from dsel.protocol import Objective

MakeOptimizer = Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]


class LossModule(pl.LightningModule):
    """Trains `model` on the mean loss per predicted token, with the schedule of the whole run from `start_step` on."""

    def __init__(
        self,
        model: torch.nn.Module,
        objective: Objective,
        make_optimizer: MakeOptimizer,
        schedule: Callable[[int], float],
        start_step: int = 0,
        optimizer_state: Mapping[str, Any] | None = None,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.model, self.objective = model, objective
        self.make_optimizer, self.schedule = make_optimizer, schedule
        self.start_step, self.optimizer_state, self.smoothing = start_step, optimizer_state, smoothing
        self.last_loss: torch.Tensor | None = None  # of the newest step; read when a curve point is due

    def training_step(self, batch: Any, _index: int) -> torch.Tensor:
        """Mean loss over the batch's predicted tokens."""
        losses = self.objective.token_losses(self.model, batch, self.smoothing)
        loss = losses.sum() / self.objective.predicted(batch).sum()
        self.last_loss = loss.detach()
        return loss

    def configure_optimizers(self) -> Any:
        """The optimizer, with its state where a phase goes on, and the run's schedule by step."""
        optimizer = self.make_optimizer([p for p in self.model.parameters() if p.requires_grad])
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        if self.optimizer_state is not None:
            optimizer.load_state_dict(dict(self.optimizer_state))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.schedule, last_epoch=self.start_step - 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def run_schedule(schedule: str, warmup: int, total: int) -> Callable[[int], float]:
    """The factor on the learning rate by step of the run."""
    return partial(multiplier, schedule=schedule, warmup=warmup, total=total)
