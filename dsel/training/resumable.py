"""A training that may be killed, or interrupted, and goes on to the same result, bit for bit."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytorch_lightning as pl
import torch
from safetensors import SafetensorError

from dsel.protocol import Stateful
from dsel.training.curve import Curve
from dsel.training.midway import Midway, random_state, set_random_state
from dsel.training.module import LossModule
from dsel.training.sharded import optimizer_state, weights

log = logging.getLogger("dsel")

ASK = 10  # steps after which several processes agree on whether to write


class Stopped(BaseException):
    """Training was interrupted by this signal, and how far it got is written."""


@dataclass
class Stop:
    """Whether somebody has asked for the end of the training `label`."""

    label: str = ""
    signal: int | None = None
    listens: bool = False

    def ask(self, number: int, _frame: Any) -> None:
        """What a signal does: the second one stops at once."""
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        log.info("%-10s stops after this step, with a checkpoint; once more: at once", self.label)


@dataclass
class Resumable(pl.Callback):
    """Writes weights, optimizer, random states and the state of `parts` every so often, and when `stop` says so.

    Comes behind the callbacks among `parts`: they have seen the step when it writes.
    """

    label: str
    midway: Midway | None  # of the process that writes
    curve: Curve
    parts: Mapping[str, Stateful]
    stop: Stop = field(default_factory=Stop)
    before: Mapping[str, Any] | None = None  # what training goes on from
    warned: bool = False

    def __post_init__(self) -> None:
        self.started = self.written = time.monotonic()
        self.seconds_before = float(self.before["seconds"]) if self.before else 0.0

    @property
    def seconds(self) -> float:
        """That training has taken, those before a kill included."""
        return time.monotonic() - self.started + self.seconds_before

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning has put a handler in front of ours which, on several processes, waits for the others in the middle of a step."""
        if self.stop.listens:
            signal.signal(signal.SIGTERM, self.stop.ask)
        elif trainer.global_rank:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the first decides when to stop

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """What Lightning draws before the first step does not count."""
        if batch_idx == 0 and self.before is not None:
            states = self.before["random"]
            set_random_state(states[trainer.global_rank % len(states)], pl_module.device)
            trainer.precision_plugin.load_state_dict(self.before["precision"])

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Write when due, but not where training ends anyway or gradients are still summed up."""
        steps, size = self.curve.steps, trainer.world_size
        is_end = trainer.should_stop or self.curve.step == self.curve.plan.end
        if is_end or steps % trainer.accumulate_grad_batches or (size > 1 and steps % ASK):
            return
        asked = self.stop.signal is not None, self._is_due()
        is_stopped, is_due = trainer.strategy.broadcast(asked) if size > 1 else asked
        if is_stopped or is_due:
            self._write(trainer, pl_module)
        if is_stopped:
            raise Stopped

    def _is_due(self) -> bool:
        return self.midway is not None and time.monotonic() - self.written >= 60 * self.midway.minutes

    def _write(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Errors: none; a full disk, or a state that cannot be written down, is no reason to stop training."""
        assert isinstance(module, LossModule)
        state = {
            "optimizer_steps": module.start_step + trainer.global_step - self.curve.plan.start,
            "model": weights(trainer, module.model),
            "optimizer": optimizer_state(trainer),
            "random": _of_all(trainer, random_state(module.device)),
            "precision": trainer.precision_plugin.state_dict(),
            "seconds": self.seconds,
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
        }
        if self.midway is not None:
            try:
                self.midway.write(self.curve.step, state)
            except (OSError, SafetensorError, TypeError) as error:
                self._warn(error)
        self.written = time.monotonic()

    def _warn(self, error: Exception) -> None:
        assert self.midway is not None
        if not self.warned:
            log.warning(
                "%s: no checkpoint could be written to %s (%s); training goes on, and a kill would lose more of it",
                self.label, self.midway.folder, " ".join(str(error).split()),
            )  # fmt: skip
        self.warned = True

    def restore(self, model: torch.nn.Module) -> None:
        """Put weights and parts where they were."""
        if self.before is not None:
            model.load_state_dict(self.before["model"])
            for name, part in self.parts.items():
                part.load_state_dict(self.before["parts"][name])


def _of_all(trainer: pl.Trainer, state: dict[str, torch.Tensor]) -> list[Any]:
    """Each process's, in order."""
    if trainer.world_size == 1:
        return [state]
    states: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(states, state)
    return states


def say_where(label: str, step: int, end: int, written: datetime) -> None:
    """That training goes on, and from where."""
    log.info("%-10s goes on at step %s of %s (checkpoint of %s)", label, f"{step:,}", f"{end:,}", f"{written:%Y-%m-%d %H:%M:%S}")


@contextmanager
def stoppable(stop: Stop) -> Iterator[None]:
    """Inside, the first Ctrl-C (or SIGTERM, as of a cluster's time limit) lets training write a checkpoint; a second one stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    stop.listens = True
    try:
        yield
        if stop.signal is not None:  # too late to be heeded
            raise Stopped
    except Stopped:
        if stop.signal == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM) from None
        raise KeyboardInterrupt from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
