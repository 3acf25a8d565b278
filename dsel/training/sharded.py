"""Weights and optimizer state of a model in training, whole on the first process, also where each process holds a part (FSDP)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import FSDPStrategy

PREFIX = "model."  # of the model inside of the LightningModule


def is_sharded(trainer: pl.Trainer) -> bool:
    """Whether each process holds a part of the weights."""
    return isinstance(trainer.strategy, FSDPStrategy)


def weights(trainer: pl.Trainer, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """By name; empty on all processes but the first. All processes must ask."""
    if is_sharded(trainer):
        found = trainer.strategy.lightning_module_state_dict()  # on the CPU
        return {name.removeprefix(PREFIX): value for name, value in found.items()}
    return dict(model.state_dict()) if trainer.is_global_zero else {}


def optimizer_state(trainer: pl.Trainer) -> dict[str, Any]:
    """Of the one optimizer, as torch has it: parameters by number. Whole on the first process. All processes must ask."""
    optimizer = trainer.optimizers[0]
    state: dict[str, Any] = trainer.strategy.optimizer_state(optimizer) if is_sharded(trainer) else optimizer.state_dict()
    return state


def load_optimizer_state(trainer: pl.Trainer, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Give the optimizer a whole state, or this process's part of it."""
    if not is_sharded(trainer):
        optimizer.load_state_dict(dict(state))
        return
    from torch.distributed.fsdp import (
        FullOptimStateDictConfig,
        FullStateDictConfig,
        FullyShardedDataParallel,
        OptimStateKeyType,
        StateDictType,
    )

    root, everywhere = trainer.strategy.model, {"offload_to_cpu": True, "rank0_only": False}
    assert root is not None
    kind, configs = StateDictType.FULL_STATE_DICT, (FullStateDictConfig(**everywhere), FullOptimStateDictConfig(**everywhere))
    with FullyShardedDataParallel.state_dict_type(root, kind, *configs):
        by_name = FullyShardedDataParallel.rekey_optim_state_dict(dict(state), OptimStateKeyType.PARAM_NAME, root)
        optimizer.load_state_dict(FullyShardedDataParallel.optim_state_dict_to_load(root, optimizer, by_name))


def clip_norm(trainer: pl.Trainer, most: float) -> None:
    """Scale gradients in parts so that the norm of them all is at most this."""
    trainer.strategy.model.clip_grad_norm_(most)  # type: ignore[union-attr, operator]


class Whole(pl.Callback):
    """At the end, weights and optimizer state of a model in parts: after that there is no way to them."""

    weights: dict[str, torch.Tensor] | None = None
    optimizer_state: dict[str, Any] | None = None

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Bring them together."""
        if is_sharded(trainer):
            self.weights, self.optimizer_state = weights(trainer, pl_module.model), optimizer_state(trainer)  # type: ignore[arg-type]


@contextmanager
def whole(trainer: pl.Trainer) -> Iterator[bool]:
    """Inside, the model is whole on each process. Gives whether it had to be brought together, so that all must take part."""
    if not is_sharded(trainer):
        yield False
        return
    from torch.distributed.fsdp import FullyShardedDataParallel

    with FullyShardedDataParallel.summon_full_params(trainer.strategy.model, writeback=False):  # type: ignore[arg-type]
        yield True
