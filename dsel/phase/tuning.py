"""Fine-tune an encoder with a head on one task."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dsel.error import InputError
from dsel.functional.schedule import SCHEDULES

if TYPE_CHECKING:
    from dsel.functional.pairs import Ragged
    from dsel.functional.task_model import TaskModel
    from dsel.labelled import LabelledTask


@dataclass(frozen=True)
class Tuning:
    """`num_epochs` over a task's rows in batches of `batch_size`, or more epochs where a task has few rows, up to `min_steps` steps. The
    learning rate rises over the share `warmup` of the steps, then goes by `schedule`."""

    optimizer: Callable[..., Any]  # of parameters
    trainer: Callable[..., Any]  # of what a run sets
    learning_rate: float = 1.0e-3
    num_epochs: int = 3
    min_steps: int = 60
    batch_size: int = 32
    schedule: str = "linear"
    warmup: float = 0.1

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise InputError(f"tuning.schedule={self.schedule!r}: must be one of {', '.join(SCHEDULES)}")
        if min(self.num_epochs, self.batch_size) < 1:
            raise InputError(f"tuning: num_epochs={self.num_epochs}, batch_size={self.batch_size}: must be 1 or more")
        if not 0 <= self.warmup < 1:
            raise InputError(f"tuning.warmup={self.warmup}: is a share of the steps, 0 or more and below 1")

    def num_steps(self, num_rows: int) -> int:
        """Optimizer steps on so many rows."""
        return max(self.num_epochs * math.ceil(num_rows / self.batch_size), self.min_steps)

    def fit(self, model: TaskModel, tokens: Ragged, task: LabelledTask, context: int, seed: int) -> tuple[float, float]:
        """Train `model` in place on the task's rows; numbers are scaled to mean 0 and variance 1. Returns mean and scale of the numbers."""
        import torch

        from dsel.objective.labelling import Labelling, RowBatches
        from dsel.training.curve import nothing
        from dsel.training.fit import Plan, fit

        mean, scale = (float(task.labels.mean()), float(task.labels.std())) if task.is_regression else (0.0, 1.0)
        labels = torch.from_numpy(((task.labels - mean) / scale).astype(np.float32) if task.is_regression else task.labels.astype(np.int64))
        steps = self.num_steps(len(task))
        plan = Plan(steps, schedule=self.schedule, warmup=math.ceil(self.warmup * steps), every=steps)
        batches = RowBatches(tokens, labels, context, self.batch_size, seed)
        optimizer = partial(self.optimizer, lr=self.learning_rate)
        fit(model, Labelling(), batches, plan, optimizer, self.trainer, nothing, f"tune {task.name}"[:12], seed)
        return mean, scale
