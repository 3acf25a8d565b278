"""What is added to the loss for the distance from where training began, and training of some parameters only."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from laboratory import Lab
from test_adapter import LORA, drawn
from test_fit import assert_same_training, run_phase, train_phase, weights_of
from test_mask_record import Sometimes

from dsel.build import build
from dsel.error import InputError
from dsel.objective.blocks import Blocks
from dsel.state import State
from dsel.training.checkpoint import load_training
from dsel.training.fit import Fitted, Plan, fit

RATE, ALPHA = 0.1, 0.7
PLAIN = build({"_target_": "pytorch_lightning.Trainer", "_partial_": True, "accelerator": "cpu", "devices": 1})
Weights = dict[str, torch.Tensor]


def train(lab: Lab, model: torch.nn.Module, steps: int, proximity: float = ALPHA, **options: Any) -> Fitted:
    """By plain gradient descent at a constant rate."""
    plan = Plan(steps, schedule="constant", every=1, proximity=proximity)
    optimizer = partial(torch.optim.SGD, lr=RATE)
    return fit(model, lab.world.objective, batches_of(lab), plan, optimizer, PLAIN, lambda _: {}, "test", 0, **options)


def batches_of(lab: Lab) -> Blocks:
    return Blocks({"target": (lab.target, 1.0)}, 32, 3, seed=0)


def plain(lab: Lab) -> torch.nn.Module:
    return lab.context().load(None).requires_grad_(True)


def by_hand(lab: Lab, model: torch.nn.Module, steps: int, alpha: float) -> tuple[Weights, list[float]]:
    """W <- W - rate (gradient + 2 alpha (W - W0)), of what is trained; and losses without the distance."""
    trained = [p for p in model.parameters() if p.requires_grad]
    start, losses = [p.detach().clone() for p in trained], []
    for step in range(steps):
        tokens = batches_of(lab)[step]
        logits = model(input_ids=tokens[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:])
        gradients = torch.autograd.grad(loss, trained)
        losses.append(loss.item())
        with torch.no_grad():
            for p, at, gradient in zip(trained, start, gradients, strict=True):
                p -= RATE * (gradient + 2 * alpha * (p - at))
    return {name: p.detach().clone() for name, p in model.named_parameters()}, losses


def distance(one: Weights, other: Weights) -> float:
    return sum(float((value - other[name]).square().sum()) for name, value in one.items()) ** 0.5


@pytest.mark.parametrize("pattern", ["", "ln_|wpe"])
def test_steps_equal_those_by_hand(lab: Lab, pattern: str) -> None:
    """The first as if there were no proximity; later ones are pulled back. The loss that is told is that of tokens alone."""
    model, reference = plain(lab), plain(lab)
    for each in (model, reference):
        for name, p in each.named_parameters():
            p.requires_grad_(not pattern or any(part in name for part in pattern.split("|")))
    fitted = train(lab, model, 3)
    want, losses = by_hand(lab, reference, 3, ALPHA)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), want[name], rtol=1e-4, atol=1e-6)
    assert [row["train_loss"] for row in fitted.curve[1:]] == pytest.approx(losses, rel=1e-4)
    free, _ = by_hand(lab, plain(lab), 3, 0.0)
    assert distance(want, free) > 1e-2
    once, again = plain(lab), plain(lab)
    train(lab, once, 1)
    train(lab, again, 1, 0.0)
    assert all(torch.equal(p, q) for p, q in zip(once.parameters(), again.parameters(), strict=True))


def test_adapters_are_held_to_where_they_began(lab: Lab) -> None:
    model, reference = drawn(lab, LORA), drawn(lab, LORA)
    train(lab, model, 3)
    want, _ = by_hand(lab, reference, 3, ALPHA)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), want[name], rtol=1e-4, atol=1e-6)


def test_beside_an_online_selector(lab: Lab) -> None:
    """One that keeps all: the same steps."""
    model = plain(lab)
    train(lab, model, 3, online=Sometimes(range(0)))
    want, _ = by_hand(lab, plain(lab), 3, ALPHA)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), want[name], rtol=1e-4, atol=1e-6)


def test_a_strong_proximity_keeps_weights_near(lab: Lab, tmp_path: Path) -> None:
    """In a phase, from the weights that it began with."""
    before, far = plain(lab).state_dict(), []
    for alpha in (0.0, 1.0, 8.0):
        phase = train_phase(lab, start="weights", data="finetune", total_steps=12, warmup=0, schedule="constant", proximity=alpha)
        phase = replace(phase, optimizer=partial(torch.optim.SGD, lr=0.05), trainer=PLAIN)
        run_phase(lab, phase, lab.state, tmp_path / str(alpha))
        far.append(distance(before, weights_of(tmp_path / str(alpha))))
    assert far[0] > 1.2 * far[1]
    assert far[1] > 2 * far[2] > 0
    losses = [pl.read_parquet(tmp_path / str(alpha) / "curve.parquet")["target_loss"].to_list() for alpha in (0.0, 8.0)]
    assert losses[0][0] == losses[1][0]
    assert losses[0][-1] < losses[1][-1]


def test_a_phase_does_what_fit_does(lab: Lab, tmp_path: Path) -> None:
    phase = train_phase(lab, start="weights", data="finetune", total_steps=3, warmup=0, schedule="constant", proximity=ALPHA)
    run_phase(lab, replace(phase, optimizer=partial(torch.optim.SGD, lr=RATE), trainer=PLAIN), lab.state, tmp_path / "a")
    world, model = replace(lab.world, name="train"), plain(lab)
    batches = world.objective.batches({"finetune": (lab.context().finetune, 1.0)}, 32, 3, world.phase_seed("order"))
    plan = Plan(3, schedule="constant", proximity=ALPHA)
    fit(model, world.objective, batches, plan, partial(torch.optim.SGD, lr=RATE), PLAIN, lambda _: {}, "test", 0)
    found = weights_of(tmp_path / "a")
    assert all(torch.equal(value, found[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("pattern", [r"ln_", r"mlp\..*weight$", r"^transformer\.wte"])
def test_only_some_parameters_are_trained(lab: Lab, tmp_path: Path, pattern: str) -> None:
    run_phase(lab, train_phase(lab, start="weights", parameters=pattern), lab.state, tmp_path / "a")
    model, after = plain(lab), weights_of(tmp_path / "a")
    changed = [name for name, p in model.named_parameters() if not torch.equal(p, after[name])]
    assert changed == [name for name, _ in model.named_parameters() if re.search(pattern, name)]
    cost = json.loads((tmp_path / "a" / "cost.json").read_text())
    assert cost["trained_parameters"] == sum(model.get_parameter(name).numel() for name in changed)
    _, state = load_training(tmp_path / "a")
    assert len(state["state"]) == len(changed)


def test_going_on_with_the_same_parameters_equals_going_through(lab: Lab, tmp_path: Path) -> None:
    options: dict[str, Any] = {"parameters": r"attn\.c_attn"}
    run_phase(lab, train_phase(lab, **options), State("made up"), tmp_path / "through")
    state = run_phase(lab, train_phase(lab, **options, until=0.5), State("made up"), tmp_path / "a")
    run_phase(lab, train_phase(lab, **options, start="resume"), state, tmp_path / "b")
    assert_same_training(tmp_path / "through", tmp_path / "b")


@pytest.mark.parametrize("other", [None, "ln_2"])
def test_going_on_with_other_parameters_is_an_error(lab: Lab, tmp_path: Path, other: str | None) -> None:
    """The optimizer's state is not theirs, though it may have their shapes."""
    state = run_phase(lab, train_phase(lab, parameters="ln_1", until=0.5), State("made up"), tmp_path / "a")
    with pytest.raises(InputError, match=r"phases\.train.*parameters"):
        run_phase(lab, train_phase(lab, parameters=other, start="resume"), state, tmp_path / "b")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parameters": "nothing"}, r"phases\.train\.parameters=nothing: is found in no trained parameter's name \(16: transformer\.wte"),
        (
            {"parameters": "ln_", "lora": LORA, "start": "weights"},
            r"phases\.train\.parameters=ln_: is found in no trained parameter's name",
        ),
        ({"proximity": -0.5}, r"phase train: proximity=-0\.5: must be at least 0"),
    ],
)
def test_wrong_options_are_named(lab: Lab, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    def build_and_run() -> None:
        run_phase(lab, train_phase(lab, **options), lab.state, tmp_path / "a")

    with pytest.raises(InputError, match=message):
        build_and_run()
