"""Training on two processes is training on one: the same batches, losses and weights, and no trace of it afterwards."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
from laboratory import Lab
from made_up_corpus import RandomState
from test_fit import run_phase, train_phase, weights_of
from test_resumable import AT_ONCE, assert_same, dropping, run

from dsel.artifact import scratch
from dsel.build import build
from dsel.error import InputError
from dsel.model.seq2seq import Seq2Seq
from dsel.objective.blocks import Blocks
from dsel.objective.labelling import Rows
from dsel.objective.pair_batches import PairBatches
from dsel.objective.pairs import Pairs
from dsel.online.random_mask import RandomMask
from dsel.phase.train import Train
from dsel.pool import SOURCE_TOKENS, TOKENS, Pool
from dsel.state import State
from dsel.training.checkpoint import load_training
from dsel.training.fit import Plan, fit

CLOSE = 1e-5
"""Relative. Two processes sum the same losses and gradients in another order, which is some 1e-7 a step in float32."""


ADAM = partial(torch.optim.AdamW, lr=5e-3, eps=1e-4)
"""Biases of keys have no gradient but what rounding leaves, of which a smaller eps would make steps."""


def trainer(devices: int = 2, **options: Any) -> Any:
    strategy = {"strategy": "ddp"} if devices > 1 else {}
    node = {"_target_": "pytorch_lightning.Trainer", "_partial_": True, "accelerator": "cpu", "devices": devices, "gradient_clip_val": 0.5}
    return build(node | strategy | options)


def phase_of(lab: Lab, devices: int, **options: Any) -> Train:
    optimizer = options.pop("optimizer", ADAM)
    phase = train_phase(lab, **({"total_steps": 12, "batch_size": 4, "every": 3} | options))
    return replace(phase, trainer=trainer(devices), optimizer=optimizer)


def assert_close(one: Path, other: Path) -> None:
    """Curves, weights and optimizer state."""
    curves = [pl.read_parquet(folder / "curve.parquet") for folder in (one, other)]
    assert curves[0].columns == curves[1].columns
    for name in curves[0].columns:
        np.testing.assert_allclose(curves[0][name].to_numpy(), curves[1][name].to_numpy(), rtol=CLOSE, err_msg=name)
    a, b = weights_of(one), weights_of(other)
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], rtol=0, atol=CLOSE * float(value.abs().max()), msg=name)
    assert load_training(one)[0] == load_training(other)[0]
    assert load_training(one)[1]["param_groups"] == load_training(other)[1]["param_groups"]


@pytest.mark.parametrize(
    "options",
    [
        {"snapshots": 2, "label_smoothing": 0.1, "proximity": 0.1},
        {"start": "resume", "total_steps": 18, "keep": "best"},
        {
            "start": "weights", "data": "finetune", "total_steps": 60, "keep": "best", "patience": 1,
            "optimizer": partial(torch.optim.SGD, lr=3.0),
        },
    ],
    ids=["snapshots", "resume", "patience"],
)  # fmt: skip
def test_two_processes_do_as_one(lab: Lab, tmp_path: Path, options: dict[str, Any]) -> None:
    """With AdamW, clipping, warm-up, proximity; a phase that goes on; the best weights, and an early end by them."""
    before = RandomState.now(), torch.get_num_threads(), dict(os.environ), signal.getsignal(signal.SIGTERM)
    state = lab.state
    if options.get("start") == "resume":  # with the same eps
        state = run_phase(lab, phase_of(lab, 1, total_steps=18, until=1 / 3), State("made up"), tmp_path / "before")
    for devices in (1, 2):
        run_phase(lab, phase_of(lab, devices, **options), state, tmp_path / str(devices))
    assert_close(tmp_path / "1", tmp_path / "2")
    if "snapshots" in options:
        for name in ("00000006", "00000012"):
            one, other = (weights_of(tmp_path / devices / "snapshots" / name) for devices in "12")
            assert all(torch.allclose(value, other[key], atol=CLOSE) for key, value in one.items())
    if "patience" in options:
        assert load_training(tmp_path / "2")[0] < 60
    assert (RandomState.now(), torch.get_num_threads(), dict(os.environ), signal.getsignal(signal.SIGTERM)) == before
    assert not torch.distributed.is_initialized()
    assert not multiprocessing.active_children()


def test_one_device_is_one_process(lab: Lab, tmp_path: Path) -> None:
    """`trainer=ddp` on a machine with one device: to the bit, without another process or a trace."""
    before = dict(os.environ), torch.get_num_threads()
    for name, strategy in (("plain", "auto"), ("ddp", "ddp")):
        (tmp_path / name).mkdir()
        phase = replace(phase_of(lab, 1), trainer=trainer(1, strategy=strategy))
        phase.run(State("made up"), replace(lab.world, name="train"), tmp_path / name)
    assert_same(tmp_path / "plain", tmp_path / "ddp")
    assert (dict(os.environ), torch.get_num_threads()) == before
    assert not torch.distributed.is_initialized()


def made_up_pairs(count: int) -> Pool:
    rng = np.random.default_rng(0)
    sides = {name: [rng.integers(5, 290, rng.integers(2, 12)).tolist() for _ in range(count)] for name in (SOURCE_TOKENS, TOKENS)}
    return Pool("source", pa.table({"id": [str(number) for number in range(count)], **sides}), "made up")


def test_shares_of_other_sizes_count_by_their_tokens() -> None:
    """Batches of pairs have rows of all lengths, and an odd number of them; gradients are summed up over two batches."""
    fitted = []
    for devices in (1, 2):
        torch.manual_seed(0)
        recipe = Seq2Seq(num_layers=1, dim=16, ffn_dim=16, num_heads=2, context=16, vocab_size=300, dropout=0.0)
        batches = PairBatches({"source": (made_up_pairs(60), 1.0)}, 16, 2, 0)
        rows = [len(batches[step].source) for step in range(8)]
        assert min(rows) % 2 or max(rows) % 2
        make = trainer(devices, accumulate_grad_batches=2)
        plan = Plan(8, schedule="constant", warmup=0, every=1)
        fitted.append(fit(recipe.build(300), recipe.objective, batches, plan, partial(torch.optim.SGD, lr=0.5), make, norm, "test", 0))
    for one, other in zip(fitted[0].curve, fitted[1].curve, strict=True):
        assert one == pytest.approx(other, rel=CLOSE, nan_ok=True)
    assert fitted[0].curve[-1]["norm"] != pytest.approx(fitted[0].curve[0]["norm"], rel=1e-4)


def norm(model: torch.nn.Module) -> dict[str, float]:
    return {"norm": float(sum(p.detach().square().sum() for p in model.parameters()))}


@dataclass
class Misbehaving:
    """Batches that do something at a step, in the process that was started."""

    batches: Blocks
    what: str

    @property
    def batch_size(self) -> int:
        return self.batches.batch_size

    @property
    def context(self) -> int:
        return self.batches.context

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["what"] == "absent":
            os.kill(os.getpid(), signal.SIGKILL)
        if state["what"] == "lost":
            raise ValueError("not for me")
        self.__dict__.update(state)

    def __getitem__(self, step: int) -> torch.Tensor:
        if step == 3 and multiprocessing.parent_process() is not None:
            if self.what == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("this row\nis bad")
        return self.batches[step]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("killed", "exit code -9"),
        ("raised", "process 1: ValueError: this row is bad"),
        ("absent", "exit code -9"),
        ("lost", "process 1: ValueError: not for me"),
    ],
)
def test_what_stops_another_process_is_told(lab: Lab, what: str, message: str) -> None:
    batches = Misbehaving(Blocks({"target": (lab.target, 1.0)}, 32, 4, 0), what)
    model = lab.context().load(None).requires_grad_(True)
    with pytest.raises(RuntimeError, match=f"training on several processes: .*{message}"):
        fit(model, lab.world.objective, batches, Plan(6), partial(torch.optim.SGD, lr=0.1), trainer(), norm, "test", 0)
    assert not multiprocessing.active_children()
    assert not torch.distributed.is_initialized()


def test_a_loss_that_is_not_finite_is_the_same_error(lab: Lab, tmp_path: Path) -> None:
    phase = phase_of(lab, 2, every=1, optimizer=partial(torch.optim.SGD, lr=float("inf")))
    with pytest.raises(InputError, match=r"the loss is (nan|inf) at step \d+; lower optimizer\.lr"):
        run_phase(lab, phase, State("made up"), tmp_path / "a")


def test_an_interrupted_one_goes_on(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By SIGTERM, as at a job's time limit; with dropout, which each process draws for itself: the bytes of an undisturbed one."""
    lab, folder = dropping(lab, 60), tmp_path / "a"
    phase, read = phase_of(lab, 2, total_steps=14), Blocks.__getitem__
    run(lab, phase, tmp_path / "through")
    monkeypatch.setattr(Blocks, "__getitem__", lambda self, step: (step == 4 and os.kill(os.getpid(), signal.SIGTERM), read(self, step))[1])
    with pytest.raises(SystemExit):
        run(lab, phase, folder)
    monkeypatch.undo()
    assert [place.name for place in scratch(folder).iterdir()] == ["step-000000010"]
    run(lab, phase, folder)
    assert_same(folder, tmp_path / "through")
    alone = replace(phase, trainer=trainer(1))
    run(dropping(lab, AT_ONCE), alone, tmp_path / "alone")
    curves = [pl.read_parquet(tmp_path / name / "curve.parquet")["train_loss"][-1] for name in ("through", "alone")]
    assert curves[0] != pytest.approx(curves[1], rel=CLOSE)  # other units drop out


@pytest.mark.parametrize(
    ("options", "variables", "message"),
    [
        ({"batch_size": 5}, {}, r"batch_size=5: cannot be shared evenly by 2 processes \(trainer\.devices\); give a multiple of 2"),
        ({"online": RandomMask()}, {}, r"online: looks at whole batches, which 2 processes \(trainer\.devices\) share; set trainer\.dev"),
        ({}, {"WORLD_SIZE": "2"}, r"trainer\.devices: WORLD_SIZE=2: torchrun has started dsel 2 times; start it once, without torchrun"),
        ({}, {"SLURM_STEP_NUM_TASKS": "8"}, r"trainer\.devices: SLURM_STEP_NUM_TASKS=8: srun has started dsel 8 times; start it once"),
        (
            {"strategy": "ddp_spawn"},
            {},
            r"trainer\.strategy: DDPStrategy as Lightning starts it is not known here; set trainer\.str",
        ),
        ({"num_nodes": 2}, {}, r"trainer\.num_nodes=2: processes are started on this machine only; set trainer\.num_nodes=1"),
    ],
)
def test_what_cannot_be_shared_is_named(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], variables: dict[str, str], message: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    more = {key: options.pop(key) for key in ("num_nodes", "strategy") if key in options}
    phase = replace(phase_of(lab, 2, **options), trainer=trainer(2, **more))
    with pytest.raises(InputError, match=message):
        run_phase(lab, phase, State("made up"), tmp_path / "a")


def rows_of(batch: Any) -> list[tuple[Any, ...]]:
    parts = [batch] if isinstance(batch, torch.Tensor) else [part for part in batch if part is not None]
    return [tuple(str(part[row].tolist()) for part in parts) for row in range(len(parts[0]))]


@pytest.mark.parametrize("size", [2, 3, 7])
@pytest.mark.parametrize("rows", [1, 4, 5])
@pytest.mark.parametrize(
    "make",
    [
        lambda rows: torch.arange(rows * 3).reshape(rows, 3),
        lambda rows: Pairs(torch.arange(rows * 2).reshape(rows, 2), torch.ones(rows, 4), torch.arange(rows) > 2),
        lambda rows: Pairs(torch.arange(rows * 2).reshape(rows, 2), torch.ones(rows, 4)),
        lambda rows: Rows(torch.arange(rows * 2).reshape(rows, 2), torch.arange(rows)),
    ],
)
def test_shares_add_up_to_the_batch(make: Callable[[int], Any], rows: int, size: int) -> None:
    """Whatever it is made of: each row once, and one that does not count where there are too few."""
    from dsel.training.processes import Shares

    batch = make(rows)
    found = [Shares([batch], rank, size)[0] for rank in range(size)]
    assert sorted(row for share, counts in found if counts for row in rows_of(share)) == sorted(rows_of(batch))
    assert all(len(rows_of(share)) > 0 for share, _ in found)
    assert [counts for _, counts in found] == [rank < rows for rank in range(size)]
    assert all(type(share) is type(batch) for share, _ in found)
