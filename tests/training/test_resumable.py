"""A training that is killed or interrupted anywhere goes on to the result of an undisturbed one, to the bit."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import signal
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from laboratory import Lab
from test_fit import train_phase

from dsel import cli
from dsel.artifact import Store, scratch
from dsel.build import build
from dsel.error import InputError
from dsel.objective.blocks import Blocks
from dsel.online.gradient_mask import GradientMask
from dsel.phase.train import Train
from dsel.protocol import OnlineStep, Stateful
from dsel.state import State
from dsel.training import midway as files

STEPS = 12
READ = Blocks.__getitem__
AT_ONCE = 1e-9  # minutes: a checkpoint after every step
MASK = GradientMask(method="ghost", clean_share=1.0, momentum=0.9, precondition="adam")
HOT = {"optimizer": partial(torch.optim.SGD, lr=30.0, momentum=0.9), "start": "weights", "data": "finetune", "schedule": "constant"}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "best": {"keep": "best"},
    "patience": {**HOT, "total_steps": 30, "keep": "best", "patience": 2},
    "snapshots": {"snapshots": 5},
    "online": {"online": MASK},
    "resume": {"start": "resume"},
    "lora": {"start": "weights", "lora": {"r": 2, "target_modules": ["c_attn"], "lora_dropout": 0.2}},
    "proximity": {"start": "weights", "proximity": 0.3},
}


class KilledError(Exception):
    """Stands for whatever ends a process."""


def dropping(lab: Lab, minutes: float | None = AT_ONCE) -> Lab:
    """The laboratory, with a model that drops out units, and checkpoints so often."""
    assert lab.world.model is not None
    model = replace(lab.world.model, dropout=0.2)  # type: ignore[type-var]
    return replace(lab, world=replace(lab.world, name="train", model=model, config={"checkpoint_minutes": minutes}))


def phase_of(lab: Lab, **options: Any) -> Train:
    """Twelve steps, a point after every second one."""
    optimizer = options.pop("optimizer", None)
    phase = train_phase(lab, **({"total_steps": STEPS} | options))
    return phase if optimizer is None else replace(phase, optimizer=optimizer)


def begin(lab: Lab, phase: Train, folder: Path) -> State:
    """What the phase starts from: models that drop out units have been trained before, where it needs one."""
    if phase.start == "scratch":
        return State("made up")
    before = folder.parent / "before"
    if not before.exists():
        before.mkdir()
        train_phase(lab, total_steps=2 * STEPS, until=0.25).run(State("made up"), replace(lab.world, config={}), before)
    return State("made up").with_checkpoint("before", before)


def run(lab: Lab, phase: Train, folder: Path) -> dict[str, Any]:
    """The phase, in a folder as the store gives it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return dict(phase.run(begin(lab, phase, folder), lab.world, folder))


def die_at(monkeypatch: pytest.MonkeyPatch, step: int | None, error: type[BaseException] = KilledError) -> None:
    """To read this step's batch is the end."""

    def read(self: Blocks, number: int) -> torch.Tensor:
        if number == step:
            raise error
        return READ(self, number)

    monkeypatch.setattr(Blocks, "__getitem__", read)


def content(folder: Path) -> dict[str, Any]:
    """By name: the bytes of every file but tables, whose rows do without times."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        table = pl.read_parquet(path).drop("seconds", strict=False) if path.suffix == ".parquet" else None
        found[name] = path.read_bytes() if table is None else (table.schema, table.rows())
    return found


def assert_same(one: Path, other: Path) -> None:
    a, b = content(one), content(other)
    assert a.keys() == b.keys()
    assert [name for name in a if repr(a[name]) != repr(b[name])] == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_going_on_equals_going_through(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str) -> None:
    """Killed twice: weights, optimizer, curve, snapshots, best weights, patience, what was masked, and dropout."""
    lab, folder = dropping(lab), tmp_path / variant
    phase = phase_of(lab, **VARIANTS[variant])
    first = 6 if phase.start == "resume" else 0
    through = run(replace(lab, world=replace(lab.world, config={})), phase, tmp_path / "through")
    assert not scratch(tmp_path / "through").exists()
    for step in (first + 3, first + 5):
        die_at(monkeypatch, step)
        with pytest.raises(KilledError):
            run(lab, phase, folder)
        assert [place.name for place in scratch(folder).glob("step-*")] == [f"step-{step:09d}"]
    die_at(monkeypatch, None)
    cost = run(lab, phase, folder)
    assert cost == through
    assert_same(folder, tmp_path / "through")
    assert pl.read_parquet(folder / "curve.parquet").height > 3
    if variant == "patience":
        assert cost["optimizer_steps"] < 30


@pytest.mark.parametrize("name", sorted(path.stem for path in (cli.CONF / "online").glob("*.yaml")))
def test_every_online_selector_goes_on(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Those that draw, or remember, are `Stateful`; that of a schedule is the selector's that it wraps."""
    from made_up_corpus import tiny_config

    config = tiny_config(lab.source_file, lab.target_file, tmp_path, f"online={name}")["online"]
    inner = {"_target_": "dsel.online.random_mask.RandomMask"}
    options: dict[str, dict[str, Any]] = {
        "gradient_mask": {"method": "ghost", "clean_share": 1.0, "momentum": 0.5},
        "schedule": {"selector": inner, "every": 2},
    }
    online = build(config | options.get(name, {}))
    lab, folder = dropping(lab), tmp_path / "a"
    run(lab, phase_of(lab, online=online), tmp_path / "through")
    die_at(monkeypatch, 5)
    with pytest.raises(KilledError):
        run(lab, phase_of(lab, online=online), folder)
    die_at(monkeypatch, None)
    run(lab, phase_of(lab, online=online), folder)
    assert_same(folder, tmp_path / "through")
    assert isinstance(online.begin(0), Stateful) == (name != "loss_mask")


def test_it_says_where_it_goes_on(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    lab = dropping(lab)
    die_at(monkeypatch, 5)
    with pytest.raises(KilledError):
        run(lab, phase_of(lab), tmp_path / "a")
    die_at(monkeypatch, None)
    with caplog.at_level(logging.INFO, "dsel"):
        run(lab, phase_of(lab), tmp_path / "a")
    assert "train      goes on at step 5 of 12 (checkpoint of 20" in caplog.text


def test_a_damaged_checkpoint_is_left_aside(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is cut off, or holds other bytes; one that is half-written has no name of its own. The one before will do, or none."""
    lab, folder = dropping(lab), tmp_path / "a"
    run(lab, phase_of(lab), tmp_path / "through")
    die_at(monkeypatch, 6)
    with pytest.raises(KilledError):
        run(lab, phase_of(lab), folder)
    die_at(monkeypatch, None)
    good, places = scratch(folder) / "step-000000006", {}
    for number, damage in enumerate(("cut off", "other bytes", "no json", "missing"), start=7):
        places[damage] = shutil.copytree(good, good.with_name(f"step-{number:09d}"))
    os.truncate(places["cut off"] / files.TENSORS, (good / files.TENSORS).stat().st_size // 2)
    (places["other bytes"] / files.TENSORS).write_bytes((good / files.TENSORS).read_bytes()[:-4] + b"\0\0\0\1")
    os.truncate(places["no json"] / files.STATE, 40)
    (places["missing"] / files.TENSORS).unlink()
    shutil.copytree(good, good.with_name("step-000000011.part"))
    with caplog.at_level(logging.INFO, "dsel"):
        run(lab, phase_of(lab), folder)
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 4
    assert all(any(str(place) in line for line in warned) for place in places.values())
    assert all("is damaged" in line for line in warned)
    assert "goes on at step 6 of 12" in caplog.text
    assert_same(folder, tmp_path / "through")


def test_without_a_sound_checkpoint_it_starts_anew(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots that the killed training has left are not taken for its own."""
    lab, folder = dropping(lab), tmp_path / "a"
    phase = phase_of(lab, snapshots=6)
    run(lab, phase, tmp_path / "through")
    die_at(monkeypatch, 6)
    with pytest.raises(KilledError):
        run(lab, phase, folder)
    die_at(monkeypatch, None)
    (place,) = scratch(folder).glob("step-*")
    os.truncate(place / files.STATE, 3)
    run(lab, phase, folder)
    assert_same(folder, tmp_path / "through")


def test_a_full_disk_does_not_stop_training(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, what is half-written goes, and the checkpoint before stays."""
    lab, folder, write, written = dropping(lab), tmp_path / "a", files.save_file, []
    run(lab, phase_of(lab), tmp_path / "through")

    def full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        written.append(path)
        write(tensors, path)
        if len(written) > 2:
            os.truncate(path, 10)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(files, "save_file", full)
    die_at(monkeypatch, 5)
    with pytest.raises(KilledError):
        run(lab, phase_of(lab), folder)
    assert [place.name for place in scratch(folder).iterdir()] == ["step-000000002"]
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith(f"train: no checkpoint could be written to {scratch(folder)} ([Errno 28] No space left on device")
    die_at(monkeypatch, None)
    run(lab, phase_of(lab), folder)
    assert_same(folder, tmp_path / "through")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_loses_nothing(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    """Ctrl-C, or the end of a job: the step is finished and written, though none was due."""
    lab, folder = dropping(lab, minutes=60), tmp_path / "a"
    phase, handlers = phase_of(lab), [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    run(lab, phase, tmp_path / "through")
    token_losses, steps = type(lab.world.objective).token_losses, iter(range(1, 100))

    def interrupted(*arguments: Any) -> torch.Tensor:
        if torch.is_grad_enabled() and next(steps) == 5:
            os.kill(os.getpid(), number)
        return token_losses(*arguments)

    monkeypatch.setattr(type(lab.world.objective), "token_losses", interrupted)
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit), caplog.at_level(logging.INFO, "dsel"):
        run(lab, phase, folder)
    assert [place.name for place in scratch(folder).glob("step-*")] == ["step-000000005"]
    assert "stops after this step, with a checkpoint" in caplog.text
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    monkeypatch.undo()
    run(lab, phase, folder)
    assert_same(folder, tmp_path / "through")


def test_an_interruption_in_the_last_step_is_one(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run does not go on as if nobody had asked."""
    lab = dropping(lab, minutes=60)
    monkeypatch.setattr(Blocks, "__getitem__", lambda self, step: (step == 11 and os.kill(os.getpid(), signal.SIGINT), READ(self, step))[1])
    with pytest.raises(KeyboardInterrupt):
        run(lab, phase_of(lab), tmp_path / "a")


def test_a_second_interruption_stops_at_once(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = dropping(lab, minutes=60)

    def twice(*_: Any) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not reached")

    monkeypatch.setattr(type(lab.world.objective), "token_losses", twice)
    with pytest.raises(KeyboardInterrupt):
        run(lab, phase_of(lab), tmp_path / "a")
    assert not scratch(tmp_path / "a").exists()


@pytest.mark.parametrize("minutes", [None, 0, 60])
def test_short_trainings_leave_nothing(lab: Lab, tmp_path: Path, minutes: float | None) -> None:
    run(dropping(lab, minutes), phase_of(dropping(lab)), tmp_path / "a")
    assert not scratch(tmp_path / "a").exists()


@pytest.mark.parametrize("minutes", [-1, True, "often", float("nan")])
def test_a_wrong_number_of_minutes_is_named(lab: Lab, tmp_path: Path, minutes: Any) -> None:
    with pytest.raises(InputError, match=f"checkpoint_minutes={minutes}: must be a number of minutes, or null or 0 for never"):
        run(dropping(lab, minutes), phase_of(dropping(lab)), tmp_path / "a")


def test_the_store_keeps_what_was_done_until_it_has_the_artifact(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that is built goes with its owner; the checkpoint stays, and goes when all is there. Seconds before the kill count."""
    lab, store = dropping(lab), Store(tmp_path)
    lab, phase = replace(lab, world=replace(lab.world, store=store)), phase_of(lab)

    def build_it(folder: Path) -> dict[str, Any]:
        return dict(phase.run(State("made up"), lab.world, folder))

    def names() -> list[str]:
        return [path.name for path in tmp_path.iterdir() if "train" in path.name and path.suffix != ".lock"]

    die_at(monkeypatch, 6)
    with pytest.raises(KilledError):
        store.get("train", "key", build_it)
    place = tmp_path / ".train-key.partial"
    assert names() == [place.name]
    (written,) = place.glob("step-*")
    record = json.loads((written / files.STATE).read_text())
    seconds = dict(record["state"]["items"])["seconds"]
    assert 0 < seconds < 60
    die_at(monkeypatch, None)
    assert store.saved == 0
    folder, found = store.get("train", "key", build_it)
    assert not found
    assert store.saved == pytest.approx(seconds)
    assert names() == [folder.name]
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {".safetensors", ".json", ".parquet"}


def test_how_often_is_no_part_of_what_a_run_is(lab: Lab) -> None:
    other = type(lab.run)({**lab.config, "checkpoint_minutes": 0.5})
    assert lab.config["checkpoint_minutes"] == 5
    assert other.keys == lab.run.keys


@dataclass(frozen=True)
class Odd:
    """An online selector whose memory is nothing that can be written down."""

    clean_share = 0.0
    normaliser = "all"

    def begin(self, seed: int) -> Odd:
        return self

    def __call__(self, step: OnlineStep) -> torch.Tensor:
        return torch.ones(len(step.predicted))

    def state_dict(self) -> dict[str, Any]:
        return {"memory": object()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        raise AssertionError


def test_a_state_that_cannot_be_written_does_not_stop_training(lab: Lab, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cost = run(dropping(lab), phase_of(lab, online=Odd()), tmp_path / "a")
    assert cost["optimizer_steps"] == STEPS
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "no checkpoint could be written" in warning
    assert "neither JSON nor a tensor: object" in warning
