"""A model whose weights lie in parts (FSDP): the same training, and whole weights and optimizer state at its end and on the way.

Lightning and torch want GPUs for it. `OnTheCpu` is what they lack to do the same on two processes without one: tensors that are brought to
the CPU, where they are, must be copies there.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from laboratory import Lab
from pytorch_lightning.strategies import FSDPStrategy
from test_processes import ADAM, assert_close, trainer
from test_resumable import assert_same, dropping, run, scratch
from torch.distributed.fsdp import (
    FullOptimStateDictConfig,
    FullStateDictConfig,
    FullyShardedDataParallel,
    OptimStateKeyType,
    StateDictType,
)

from dsel.error import InputError
from dsel.objective.blocks import Blocks
from dsel.online.random_mask import RandomMask
from dsel.phase.train import Train
from dsel.training import sharded

pytestmark = pytest.mark.slow


class OnTheCpu(FSDPStrategy):
    """Lightning's, but for what refuses the CPU, or takes what is there for a copy."""

    def barrier(self, name: str | None = None) -> None:
        if torch.distributed.is_initialized():
            torch.distributed.barrier()

    def _setup_model(self, model: torch.nn.Module) -> torch.nn.Module:
        options = {"mixed_precision": self.mixed_precision_config, "sharding_strategy": self.sharding_strategy, **self.kwargs}
        return FullyShardedDataParallel(model, device_id=torch.device("cpu"), **options)

    @contextmanager
    def _whole(self) -> Iterator[FullyShardedDataParallel]:
        root, kind = self.model, StateDictType.FULL_STATE_DICT
        assert isinstance(root, FullyShardedDataParallel)
        configs = FullStateDictConfig(rank0_only=True), FullOptimStateDictConfig(offload_to_cpu=False, rank0_only=True)
        with FullyShardedDataParallel.state_dict_type(root, kind, *configs):
            yield root

    def lightning_module_state_dict(self) -> dict[str, Any]:
        with self._whole() as root:
            return root.state_dict()

    def optimizer_state(self, optimizer: Any) -> dict[str, torch.Tensor]:
        with self._whole() as root:
            state = FullyShardedDataParallel.optim_state_dict(root, getattr(optimizer, "_optimizer", optimizer))
            return state if self.global_rank else FullyShardedDataParallel.rekey_optim_state_dict(state, OptimStateKeyType.PARAM_ID, root)


def make(**options: Any) -> pl.Trainer:
    torch.distributed.fsdp.FullOptimStateDictConfig = partial(_config, FullOptimStateDictConfig)  # type: ignore[misc, assignment]
    return pl.Trainer(accelerator="cpu", devices=2, strategy=OnTheCpu(), gradient_clip_val=0.5, **options)


def _config(kind: Any, offload_to_cpu: bool, rank0_only: bool) -> Any:
    return kind(rank0_only=rank0_only)


def phase_of(lab: Lab, **options: Any) -> Train:
    """A small one."""
    from test_fit import train_phase

    phase = train_phase(lab, **({"total_steps": 14, "batch_size": 4, "every": 3, "keep": "best"} | options))
    return replace(phase, trainer=make, optimizer=ADAM)


@pytest.fixture(autouse=True)
def _configs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed.fsdp, "FullOptimStateDictConfig", FullOptimStateDictConfig)  # back to what it was


def test_parts_train_as_a_whole(lab: Lab, tmp_path: Path) -> None:
    """Losses, clipped steps, best weights, optimizer state; and a phase goes on from what another has left, in parts or not."""
    lab = replace(lab, world=replace(lab.world, name="train", config={}))
    one = replace(phase_of(lab), trainer=trainer(1))
    run(lab, one, tmp_path / "one")
    run(lab, phase_of(lab), tmp_path / "parts")
    assert_close(tmp_path / "one", tmp_path / "parts")
    state = lab.state.with_checkpoint("before", tmp_path / "before")
    (tmp_path / "before").mkdir()
    replace(phase_of(lab), until=0.5).run(state, lab.world, tmp_path / "before")
    for name, phase in (("one on", one), ("parts on", phase_of(lab))):
        (tmp_path / name).mkdir()
        replace(phase, start="resume").run(state, lab.world, tmp_path / name)
    assert_close(tmp_path / "one on", tmp_path / "parts on")
    assert_close_weights(tmp_path / "one", tmp_path / "parts on")


def assert_close_weights(one: Path, other: Path) -> None:
    """Of a training that went through and one that went on."""
    from test_fit import weights_of

    for name, value in weights_of(one).items():
        torch.testing.assert_close(value, weights_of(other)[name], rtol=0, atol=1e-5)


def test_an_interrupted_one_goes_on(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same bytes."""
    lab, folder, read = dropping(lab, 60), tmp_path / "a", Blocks.__getitem__
    run(lab, phase_of(lab), tmp_path / "through")
    monkeypatch.setattr(Blocks, "__getitem__", lambda self, step: (step == 4 and os.kill(os.getpid(), signal.SIGINT), read(self, step))[1])
    with pytest.raises(KeyboardInterrupt):
        run(lab, phase_of(lab), folder)
    monkeypatch.setattr(Blocks, "__getitem__", read)
    assert [place.name for place in scratch(folder).iterdir()] == ["step-000000010"]
    run(lab, phase_of(lab), folder)
    assert_same(folder, tmp_path / "through")


@pytest.mark.parametrize("options", [{"online": RandomMask()}, {"proximity": 0.1}, {"snapshots": 1}])
def test_what_needs_whole_weights_is_named(lab: Lab, tmp_path: Path, options: dict[str, Any]) -> None:
    (key,) = options
    with pytest.raises(InputError, match=f"^{key}: (needs whole weights, of which trainer=fsdp holds parts|looks at whole batches)"):
        run(replace(lab, world=replace(lab.world, name="train", config={})), phase_of(lab, **options), tmp_path / "a")
    assert not sharded.is_sharded(trainer(1)())
