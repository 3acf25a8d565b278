"""Fine-tune copies of a run's newest model, each an artifact that phases and cells share."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsel.artifact import fingerprint, read_record
from dsel.context import World
from dsel.error import InputError
from dsel.features import count_tokens
from dsel.functional.flops import FORWARD, WITH_BACKWARD, num_parameters
from dsel.phase.train import Train
from dsel.pool import Pool
from dsel.state import State
from dsel.subset import FineTuned, Work

if TYPE_CHECKING:
    import torch

NAME = "fine_tune"  # of all such trainings: their random draws are not the phase's, so that whoever asks for the same shares it
LOSSES = "losses.npy"


def fine_tune(train: Train, state: State, world: World, pool: Pool, target: Pool, repeat: int = 0) -> FineTuned:
    """A copy of the newest model trained on `pool` as `train` says (steps, batch size, schedule, optimizer), and its losses on the units of
    `target`, log(1 + exp(-log odds)). All of one number `repeat` draw alike what is random in training, such as the order."""
    start = state.checkpoint_of(None)
    if start is None:
        raise InputError(f"phases.{world.name}: fine-tuning begins with a trained model; put a train phase before it in pipeline")
    name = f"{NAME} {repeat}"
    key = fingerprint(start.name, repr(train), pool.fingerprint, target.fingerprint, world.seed, name)

    def build(folder: Path) -> Mapping[str, Any]:
        from dsel.functional.unit_outputs import logistic_losses, unit_outputs

        assert world.model is not None
        started = time.monotonic()
        model, flops = fine_tuned_model(train, start, replace(world, name=name), pool)
        np.save(folder / LOSSES, logistic_losses(unit_outputs(model, world.objective, target.table, world.model.context)))
        flops += FORWARD * num_parameters(model) * count_tokens(target, world.objective)
        return {"seconds": time.monotonic() - started, "flops": flops}

    folder, _ = world.store.get("finetuned", key, build)
    record = read_record(folder)
    return FineTuned(np.load(folder / LOSSES), Work(record["seconds"], record["flops"]))


def fine_tuned_model(train: Train, start: Path, world: World, pool: Pool) -> tuple[torch.nn.Module, float]:
    """The trained copy, and the floating-point operations that it took."""
    from dsel.functional.gradients import unfreeze
    from dsel.training.adapter import merged
    from dsel.training.checkpoint import load_model
    from dsel.training.curve import nothing
    from dsel.training.fit import Plan, fit

    assert world.model is not None
    model = unfreeze(load_model(start))
    size = num_parameters(model)
    plan = Plan(train.total_steps, schedule=train.schedule, warmup=train.warmup, every=train.total_steps, smoothing=train.label_smoothing)
    batches = world.objective.batches({pool.name: (pool, 1.0)}, world.model.context, train.batch_size, world.phase_seed("order"))
    trained = train.with_adapters(model, world)
    fit(trained, world.objective, batches, plan, train.optimizer, train.trainer, nothing, "fine-tune", world.phase_seed("dropout"))
    model = merged(trained) if train.lora is not None else model
    return model.eval(), WITH_BACKWARD * size * train.total_steps * train.batch_size * world.model.context
