"""What is kept on the way through training is what training was there."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laboratory import Lab
from made_up_corpus import tiny_config
from test_fit import run_phase, train_phase, trainer, weights_of

from dsel.artifact import Store
from dsel.error import InputError
from dsel.phase.train import Train
from dsel.pipeline import Run
from dsel.state import State
from dsel.training.snapshots import load_snapshots, snapshot_steps

TOTAL, RATE = 6, 5e-3
ADAM: dict[str, Any] = {"lr": RATE, "weight_decay": 0.01, "eps": 1e-3}  # keys' biases have no gradient but rounding: no step either


def schedule(step: int) -> float:
    """Two steps of warm-up, then a cosine that ends at a tenth, of `test_fit`'s phases."""
    if step < 2:
        return RATE * (step + 1) / 2
    return RATE * (0.1 + 0.45 * (1 + np.cos(np.pi * (step - 2) / (TOTAL - 2))))


@given(st.integers(1, 500), st.integers(1, 50))
def test_snapshot_steps_are_even_and_end_at_the_end(num_steps: int, num_snapshots: int) -> None:
    steps = snapshot_steps(num_steps, num_snapshots)
    assert steps == sorted(set(steps))
    assert steps[0] >= 1
    assert steps[-1] == num_steps
    assert len(steps) == min(num_steps, num_snapshots) or num_snapshots > num_steps
    if num_snapshots > num_steps:
        assert steps == list(range(1, num_steps + 1))
    gaps = np.diff([0, *steps])
    assert gaps.max() - gaps.min() <= 1


def test_some_snapshot_steps() -> None:
    assert snapshot_steps(7, 3) == [2, 5, 7]
    assert snapshot_steps(100, 4) == [25, 50, 75, 100]
    assert snapshot_steps(2, 5) == [1, 2]
    assert snapshot_steps(10, 0) == []


def test_a_snapshot_is_what_training_stopped_there_would_have(lab: Lab, tmp_path: Path) -> None:
    """Weights, optimizer state and step, to the bit; and keeping some changes nothing of the training."""
    plain = run_phase(lab, train_phase(lab), State("made up"), tmp_path / "plain")
    run_phase(lab, train_phase(lab, snapshots=3), State("made up"), tmp_path / "kept")
    assert not (tmp_path / "plain" / "snapshots").exists()
    places = sorted((tmp_path / "kept" / "snapshots").iterdir())
    assert [int(place.name) for place in places] == [2, 4, 6]
    for place, until in zip(places, (1 / 3, 2 / 3, 1.0), strict=True):
        stopped = tmp_path / f"until-{until}"
        run_phase(lab, train_phase(lab, until=until), State("made up"), stopped)
        one, other = weights_of(stopped), weights_of(place)
        assert all(torch.equal(one[key], other[key]) for key in one)
        assert (stopped / "optimizer.safetensors").read_bytes() == (place / "optimizer.safetensors").read_bytes()
        assert json.loads((stopped / "training.json").read_text()) == json.loads((place / "training.json").read_text())
    folder = plain.checkpoint_of(None)
    assert folder is not None
    for name in ("optimizer.safetensors", "training.json", "model/model.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "kept" / name).read_bytes()


def by_hand(
    lab: Lab, batches: Any, model: torch.nn.Module, at: list[int]
) -> dict[int, dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]]:
    """A loop: by step, each parameter with its running means."""
    optimizer = torch.optim.AdamW(model.parameters(), **ADAM)
    found = {}
    for step in range(TOTAL):
        for group in optimizer.param_groups:
            group["lr"] = schedule(step)
        tokens = batches[step]
        logits = model(input_ids=tokens[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step + 1 in at:
            found[step + 1] = {
                name: (p.detach().clone(), optimizer.state[p]["exp_avg"].clone(), optimizer.state[p]["exp_avg_sq"].clone())
                for name, p in model.named_parameters()
            }
    return found


def test_snapshots_are_those_of_a_loop(lab: Lab, tmp_path: Path) -> None:
    """Weights, running means by their parameters' names, and the means of the learning rates on the way."""
    phase = replace(train_phase(lab, start="weights", snapshots=2), optimizer=partial(torch.optim.AdamW, **ADAM))
    state = run_phase(lab, phase, lab.state, tmp_path / "kept")
    world = replace(lab.world, name="train")
    batches = world.objective.batches({"source": (lab.source, 1.0)}, 32, 3, world.phase_seed("order"))
    want = by_hand(lab, batches, lab.context().load(None).requires_grad_(True), [3, 6])
    snapshots = list(replace(lab, state=state).context().snapshots("train"))
    assert [each.learning_rate for each in snapshots] == pytest.approx(
        [np.mean([schedule(s) for s in part]) for part in ((0, 1, 2), (3, 4, 5))]
    )
    for snapshot, (_, parameters) in zip(snapshots, sorted(want.items()), strict=True):
        own = dict(snapshot.model.named_parameters())
        assert snapshot.moments.keys() == own.keys() == parameters.keys()
        for name, (weight, mean, square) in parameters.items():
            torch.testing.assert_close(own[name].detach(), weight, rtol=1e-3, atol=1e-5)
            for found, wanted in zip(snapshot.moments[name], (mean, square), strict=True):
                torch.testing.assert_close(found, wanted, rtol=0, atol=1e-3 * float(wanted.abs().max()))
            assert own[name].requires_grad
        assert not snapshot.model.training


def test_going_on_counts_its_own_steps(lab: Lab, tmp_path: Path) -> None:
    """Of a phase that resumes: steps 3 to 5 of the schedule, with their rates."""
    state = run_phase(lab, train_phase(lab, until=0.5), State("made up"), tmp_path / "a")
    state = run_phase(lab, train_phase(lab, start="resume", snapshots=3), state, tmp_path / "b")
    found = list(load_snapshots(tmp_path / "b"))
    assert [each.learning_rate for each in found] == pytest.approx([schedule(step) for step in (3, 4, 5)])
    last = weights_of(tmp_path / "b")
    assert all(torch.equal(value, last[name]) for name, value in found[-1].model.state_dict().items())


def test_a_phase_without_snapshots_is_its_end(lab: Lab, tmp_path: Path) -> None:
    state = run_phase(lab, train_phase(lab), State("made up"), tmp_path / "a")
    (found,) = replace(lab, state=state).context().snapshots(None)
    last = weights_of(tmp_path / "a")
    assert found.learning_rate == 1
    assert all(torch.equal(value, last[name]) for name, value in found.model.state_dict().items())
    assert list(found.moments) == [name for name, _ in found.model.named_parameters()]
    for name, p in found.model.named_parameters():
        assert all(each.shape == p.shape for each in found.moments[name])
    with pytest.raises(InputError, match=r"phases\.score: .*phase 'nobody'.*trained so far: train"):
        next(iter(replace(lab, state=state).context().snapshots("nobody")))


MAKE: dict[str, tuple[Any, dict[str, Any]]] = {
    "sgd": (partial(torch.optim.SGD, lr=1e-2, momentum=0.9), {}),
    "lora": (partial(torch.optim.AdamW, lr=1e-3), {"lora": {"r": 2, "target_modules": ["c_attn"]}, "start": "weights"}),
}


@pytest.mark.parametrize(("how", "count"), [("sgd", 0), ("sgd", 2), ("lora", 0)])
def test_without_running_means_of_squares_there_are_none(lab: Lab, tmp_path: Path, how: str, count: int) -> None:
    make, options = MAKE[how]
    phase = Train(make, trainer(), total_steps=4, batch_size=3, warmup=1, every=4, eval_tokens=300, snapshots=count, **options)
    run_phase(lab, phase, lab.state, tmp_path / "a")
    found, last = list(load_snapshots(tmp_path / "a")), weights_of(tmp_path / "a")
    assert len(found) == max(count, 1)
    assert all(not each.moments for each in found)
    assert all(torch.equal(value, last[name]) for name, value in found[-1].model.state_dict().items())


@pytest.mark.parametrize("count", [0, 2])
def test_running_means_are_those_of_what_was_trained(lab: Lab, tmp_path: Path, count: int) -> None:
    """Some parameters only: others have none, and shapes that are alike are not taken for each other."""
    run_phase(lab, train_phase(lab, start="weights", parameters=r"\.ln_|wpe", snapshots=count), lab.state, tmp_path / "a")
    world = replace(lab.world, name="train")
    model = lab.context().load(None)
    for name, p in model.named_parameters():
        p.requires_grad_("ln_" in name or "wpe" in name)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE, weight_decay=0.01)
    batches = world.objective.batches({"source": (lab.source, 1.0)}, 32, 3, world.phase_seed("order"))
    for step in range(TOTAL):
        optimizer.param_groups[0]["lr"] = schedule(step)
        logits = model(input_ids=batches[step][:, :-1]).logits
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits.transpose(1, 2), batches[step][:, 1:]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    last = list(load_snapshots(tmp_path / "a"))[-1]
    assert set(last.moments) <= set(trained)
    for name, moments in last.moments.items():
        p = model.get_parameter(name)
        for found, key in zip(moments, ("exp_avg", "exp_avg_sq"), strict=True):
            want = optimizer.state[p][key]
            assert float((found - want).abs().max()) <= 1e-3 * float(want.abs().max()), name
    assert set(last.moments) == set(trained)


def test_patience_keeps_the_end_as_well(lab: Lab, tmp_path: Path) -> None:
    """Training that stops early has a snapshot of where it stopped."""
    phase = train_phase(lab, start="weights", data="finetune", total_steps=40, every=2, keep="best", patience=1, snapshots=2)
    phase = replace(phase, optimizer=partial(torch.optim.SGD, lr=30.0))
    run_phase(lab, phase, lab.state, tmp_path / "a")
    steps = json.loads((tmp_path / "a" / "cost.json").read_text())["optimizer_steps"]
    assert steps < 40
    places = sorted((tmp_path / "a" / "snapshots").iterdir()) if (tmp_path / "a" / "snapshots").is_dir() else []
    assert places
    assert int(places[-1].name) == steps


def test_the_yaml_has_the_key(lab: Lab, tmp_path: Path) -> None:
    """phases.pretrain.snapshots=2, in a run."""
    overrides = ["phases.pretrain.snapshots=2", "steps.total=4"]
    config = tiny_config(lab.source_file, lab.target_file, tmp_path, *overrides)
    config["pipeline"] = ["pretrain"]
    config["phases"]["pretrain"] |= {"until": 1.0}
    state = Run(config).fold(Store(tmp_path / "artifacts"))
    folder = state.checkpoint_of("pretrain")
    assert folder is not None
    assert [int(place.name) for place in sorted((folder / "snapshots").iterdir())] == [2, 4]
    with pytest.raises(InputError, match=r"phase train: snapshots=-1: must be at least 0"):
        train_phase(lab, snapshots=-1)
