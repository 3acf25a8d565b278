"""Training may stop and go on anywhere, to the bit."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from laboratory import Lab
from made_up_corpus import RandomState

from dsel.build import build
from dsel.error import InputError
from dsel.objective.blocks import Blocks
from dsel.phase.train import Train
from dsel.state import State
from dsel.training.checkpoint import load_model, load_training, save_model, save_training
from dsel.training.fit import Plan, fit
from dsel.training.module import run_schedule

TOTAL = 6


def trainer() -> Any:
    return build({"_target_": "pytorch_lightning.Trainer", "_partial_": True, "accelerator": "cpu", "devices": 1, "gradient_clip_val": 1.0})


def train_phase(lab: Lab, **options: Any) -> Train:
    defaults: dict[str, Any] = {"total_steps": TOTAL, "batch_size": 3, "warmup": 2, "every": 2, "eval_tokens": 300}
    return Train(partial(torch.optim.AdamW, lr=5e-3, weight_decay=0.01), trainer(), **(defaults | options))


def run_phase(lab: Lab, phase: Train, state: State, folder: Path, name: str = "train") -> State:
    folder.mkdir(parents=True, exist_ok=True)
    world = replace(lab.world, name=name)
    cost = phase.run(state, world, folder)
    (folder / "cost.json").write_text(json.dumps(dict(cost)))
    return phase.read(state, world, folder)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder).state_dict()


def assert_same_training(a: Path, b: Path) -> None:
    """Equal weights, optimizer state, step and last curve point, to the bit."""
    one, other = weights_of(a), weights_of(b)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert (a / "optimizer.safetensors").read_bytes() == (b / "optimizer.safetensors").read_bytes()
    assert json.loads((a / "training.json").read_text()) == json.loads((b / "training.json").read_text())
    assert pl.read_parquet(a / "curve.parquet")[-1].drop("tokens").equals(pl.read_parquet(b / "curve.parquet")[-1].drop("tokens"))


@pytest.mark.parametrize("schedule", ["cosine", "linear", "inverse_sqrt"])
def test_stop_and_go_on_equals_going_through(lab: Lab, tmp_path: Path, schedule: str) -> None:
    """0 to 6 against 0 to 2, disk, 2 to 3, disk, 3 to 6, with AdamW, warm-up and the schedule of the whole run."""
    start = State("made up")
    run_phase(lab, train_phase(lab, schedule=schedule), start, tmp_path / "through")
    state = run_phase(lab, train_phase(lab, schedule=schedule, until=1 / 3), start, tmp_path / "a")
    # the phase keeps its name, so that it draws the same order of documents
    state = run_phase(lab, train_phase(lab, schedule=schedule, start="resume", until=0.5), state, tmp_path / "b")
    assert load_training(tmp_path / "b")[0] == 3
    run_phase(lab, train_phase(lab, schedule=schedule, start="resume"), state, tmp_path / "c")
    assert_same_training(tmp_path / "through", tmp_path / "c")
    steps = pl.read_parquet(tmp_path / "c" / "curve.parquet")["step"].to_list()
    assert steps == [3, 5, 6]
    assert json.loads((tmp_path / "c" / "cost.json").read_text())["optimizer_steps"] == 3


def test_the_learning_rate_is_that_of_the_step(lab: Lab, tmp_path: Path) -> None:
    """Recorded at a curve point: the rate of the step to come."""
    state = run_phase(lab, train_phase(lab, every=1, until=0.5), State("made up"), tmp_path / "a")
    run_phase(lab, train_phase(lab, every=1, start="resume"), state, tmp_path / "b")
    factor = run_schedule("cosine", 2, TOTAL)
    for name, steps in (("a", range(4)), ("b", range(3, 7))):
        curve = pl.read_parquet(tmp_path / name / "curve.parquet")
        assert curve["step"].to_list() == list(steps)
        assert curve["learning_rate"].to_list() == pytest.approx([5e-3 * factor(step) for step in steps])


def test_a_phase_without_steps_hands_on_what_it_got(lab: Lab, tmp_path: Path) -> None:
    """`until` at the step that was reached already, then on: as if it had not been there."""
    state = run_phase(lab, train_phase(lab, until=0.5), State("made up"), tmp_path / "a")
    idle = run_phase(lab, train_phase(lab, start="resume", until=0.5), state, tmp_path / "idle")
    for name, before in (("b", state), ("c", idle)):
        run_phase(lab, train_phase(lab, start="resume"), before, tmp_path / name)
    assert_same_training(tmp_path / "b", tmp_path / "c")


def test_resume_from_a_model_that_was_not_trained(lab: Lab, tmp_path: Path) -> None:
    """`phases.pretrain.until=0`, as for a model that exists already: going on from there begins at step 0."""
    state = run_phase(lab, train_phase(lab, until=0.0), State("made up"), tmp_path / "a")
    state = run_phase(lab, train_phase(lab, start="resume", until=0.0), state, tmp_path / "b")
    run_phase(lab, train_phase(lab, start="resume"), state, tmp_path / "c")
    run_phase(lab, train_phase(lab), State("made up"), tmp_path / "through")
    assert_same_training(tmp_path / "through", tmp_path / "c")


def test_start_weights_begins_a_schedule_of_its_own(lab: Lab, tmp_path: Path) -> None:
    run_phase(lab, train_phase(lab, start="weights", every=1, until=0.5), lab.state, tmp_path / "a")
    curve = pl.read_parquet(tmp_path / "a" / "curve.parquet")
    assert curve["step"].to_list() == [0, 1, 2, 3]
    assert curve["learning_rate"][0] == pytest.approx(5e-3 / 2)
    pretrained = lab.state.checkpoint_of(None)
    assert pretrained is not None
    before = pl.read_parquet(pretrained / "curve.parquet")["target_loss"].to_list()[-1]
    assert curve["target_loss"][0] < before + 0.5  # it starts from the trained weights, not from scratch


def test_global_random_state_is_left_alone(lab: Lab, tmp_path: Path) -> None:
    before = RandomState.now()
    run_phase(lab, train_phase(lab), State("made up"), tmp_path / "a")
    assert RandomState.now() == before
    torch.manual_seed(1234)  # and what is drawn does not depend on it
    run_phase(lab, train_phase(lab), State("made up"), tmp_path / "b")
    assert_same_training(tmp_path / "a", tmp_path / "b")


def test_seed_and_phase_name_draw_other_weights(lab: Lab, tmp_path: Path) -> None:
    run_phase(lab, train_phase(lab, until=0.0), State("made up"), tmp_path / "a", "one")
    run_phase(lab, train_phase(lab, until=0.0), State("made up"), tmp_path / "b", "two")
    a, b = weights_of(tmp_path / "a"), weights_of(tmp_path / "b")
    assert not torch.equal(a["transformer.wte.weight"], b["transformer.wte.weight"])


def test_keep_best_ends_with_the_best_weights(lab: Lab, tmp_path: Path) -> None:
    """A rate that ruins the model: the best point is an early one, and patience ends the phase."""
    phase = train_phase(lab, start="weights", data="finetune", total_steps=30, every=2, keep="best", patience=2, schedule="constant")
    phase = replace(phase, optimizer=partial(torch.optim.SGD, lr=30.0))
    run_phase(lab, phase, lab.state, tmp_path / "a")
    curve = pl.read_parquet(tmp_path / "a" / "curve.parquet")
    best = curve["target_loss"].min()
    assert curve["step"].to_list()[-1] < 30
    from dsel.training.evaluation import head_of, mean_loss

    validation = head_of(lab.world.tokenized(lab.world.corpus.validation), 300)
    assert mean_loss(load_model(tmp_path / "a"), lab.world, validation) == pytest.approx(best, abs=1e-6)


def test_without_held_out_documents_the_last_weights_are_kept(lab: Lab, tmp_path: Path) -> None:
    """Not those before the first step, as if training had never done better."""
    corpus = lab.world.corpus
    blind = replace(lab.world, name="train", corpus=replace(corpus, validation=corpus.validation.take(np.arange(0))))
    folders = {keep: tmp_path / keep for keep in ("last", "best")}
    for keep, folder in folders.items():
        folder.mkdir()
        train_phase(lab, keep=keep, patience=1 if keep == "best" else None).run(State("made up"), blind, folder)
    assert_same_training(folders["best"], folders["last"])


def test_one_step_equals_one_by_hand(lab: Lab) -> None:
    """The module's loss is the mean over predicted tokens; plain SGD without clipping follows its gradient."""
    model, reference = lab.context().load(None), lab.context().load(None)
    for m in (model, reference):
        m.requires_grad_(True)
    batches = Blocks({"target": (lab.target, 1.0)}, 32, 3, seed=0)
    plain = build({"_target_": "pytorch_lightning.Trainer", "_partial_": True, "accelerator": "cpu", "devices": 1})
    optimizer = partial(torch.optim.SGD, lr=0.1)
    fitted = fit(model, lab.world.objective, batches, Plan(1, schedule="constant"), optimizer, plain, lambda _: {}, "test", 0)
    tokens = batches[0]
    logits = reference(input_ids=tokens[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:])
    loss.backward()
    assert fitted.curve[-1]["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
    for got, start in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(got, start - 0.1 * start.grad, rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_not_finite_is_an_error(lab: Lab, tmp_path: Path) -> None:
    phase = replace(train_phase(lab, every=1, warmup=0, total_steps=20), optimizer=partial(torch.optim.SGD, lr=float("inf")))
    with pytest.raises(InputError, match=r"the loss is (nan|inf) at step \d+; lower optimizer\.lr"):
        run_phase(lab, phase, State("made up"), tmp_path / "a")


def test_a_checkpoint_survives_the_disk_without_pickle(lab: Lab, tmp_path: Path) -> None:
    model = lab.context().load(None).requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(3):
        optimizer.zero_grad()
        lab.world.objective.token_losses(model, torch.arange(10)[None] + step).sum().backward()
        optimizer.step()
    save_model(model, tmp_path)
    save_training(tmp_path, 3, optimizer.state_dict())
    back = load_model(tmp_path)
    assert not back.training
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in back.state_dict().items())
    step, state = load_training(tmp_path)
    assert step == 3
    fresh = torch.optim.AdamW(back.parameters(), lr=7.0)
    fresh.load_state_dict(state)
    given, found = optimizer.state_dict()["state"], fresh.state_dict()["state"]
    assert given.keys() == found.keys()
    for one, other in ((given[number], found[number]) for number in given):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert fresh.param_groups[0]["lr"] == 1e-3
    kinds = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert kinds == {".safetensors", ".json"}


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"start": "again"}, "start='again'"),
        ({"schedule": "step"}, "schedule='step'"),
        ({"keep": "all"}, "keep='all'"),
        ({"until": 1.5}, r"until=1\.5"),
    ],
)
def test_wrong_options_are_named(lab: Lab, options: dict[str, Any], key: str) -> None:
    with pytest.raises(InputError, match=key):
        train_phase(lab, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "selection"}, r"phases\.train\.data=selection: nothing is selected yet"),
        ({"data": "sauce"}, r"phases\.train\.data=sauce: must be selection or one of source"),
        ({"start": "resume"}, r"phases\.train: start=resume needs the checkpoint"),
        ({"start": "weights", "checkpoint": "nobody"}, r"checkpoint of phase nobody; trained so far: none"),
    ],
)
def test_wrong_parts_are_named(lab: Lab, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_phase(lab, train_phase(lab, **options), State("made up"), tmp_path / "a")
