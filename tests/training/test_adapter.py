"""Low-rank adapters: what they change, that they are the mathematics they are said to be, and that a merged model is a plain one."""

from __future__ import annotations

import json
import logging
import re
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
import torch
from laboratory import Lab
from made_up_corpus import RandomState

from dsel.build import build
from dsel.error import InputError
from dsel.model.from_config import FromConfig
from dsel.objective.blocks import Blocks
from dsel.objective.language_modeling import LanguageModeling
from dsel.phase.train import Train
from dsel.state import State
from dsel.training.adapter import adapted, merged
from dsel.training.checkpoint import load_model
from dsel.training.evaluation import head_of, mean_loss
from dsel.training.fit import Plan, fit

LORA: dict[str, Any] = {"r": 2, "lora_alpha": 6, "target_modules": ["c_attn"]}
TRAINER = {"_target_": "pytorch_lightning.Trainer", "_partial_": True, "accelerator": "cpu", "devices": 1}


def train_phase(rate: float = 5e-3, **options: Any) -> Train:
    defaults: dict[str, Any] = {"total_steps": 4, "batch_size": 3, "warmup": 1, "every": 2, "eval_tokens": 300, "start": "weights"}
    return Train(partial(torch.optim.SGD, lr=rate), build(TRAINER), **(defaults | {"lora": LORA} | options))


def run_phase(lab: Lab, phase: Train, folder: Path, state: State | None = None, **world: Any) -> dict[str, Any]:
    folder.mkdir()
    return dict(phase.run(state or lab.state, replace(lab.world, **{"name": "train", **world}), folder))


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder).state_dict()


def plain(lab: Lab) -> torch.nn.Module:
    return lab.context().load(None).requires_grad_(True)


def drawn(lab: Lab, options: dict[str, Any]) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return adapted(plain(lab), options)


def test_only_adapted_weights_change(lab: Lab, tmp_path: Path) -> None:
    state = RandomState.now()
    cost = run_phase(lab, train_phase(), tmp_path / "a")
    assert RandomState.now() == state
    before, after = plain(lab).state_dict(), weights_of(tmp_path / "a")
    assert before.keys() == after.keys()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {name for name in before if name.endswith("attn.c_attn.weight")}
    assert all(torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-3) <= 2 for name in changed)
    full = run_phase(lab, train_phase(lora=None), tmp_path / "b")
    size = sum(p.numel() for p in plain(lab).parameters())
    assert (cost.pop("trained_parameters"), full.pop("trained_parameters")) == (len(changed) * 2 * (32 + 96), size)
    assert cost == full
    assert type(load_model(tmp_path / "a")).__name__ == "GPT2LMHeadModel"


def test_the_seed_decides(lab: Lab, tmp_path: Path) -> None:
    for folder, world in (("a", {}), ("b", {}), ("c", {"seed": 7}), ("d", {"name": "other"})):
        torch.manual_seed(len(folder))
        run_phase(lab, train_phase(until=0.25), tmp_path / folder, **world)
    one, same, *others = (weights_of(tmp_path / folder)["transformer.h.0.attn.c_attn.weight"] for folder in "abcd")
    assert torch.equal(one, same)
    assert not any(torch.equal(one, other) for other in others)


def test_one_step_equals_one_by_hand(lab: Lab) -> None:
    """W + s B A from B = 0: a step of SGD leaves A, and makes B = -rate s G A^T of the gradient G by W."""
    batches, objective, rate, s = Blocks({"target": (lab.target, 1.0)}, 32, 3, seed=0), lab.world.objective, 0.1, 6 / 2
    model = drawn(lab, LORA)
    name = "transformer.h.0.attn.c_attn"
    a = model.get_parameter(f"base_model.model.{name}.lora_A.default.weight").detach().clone()
    optimizer = partial(torch.optim.SGD, lr=rate)
    fit(model, objective, batches, Plan(1, schedule="constant"), optimizer, build(TRAINER), lambda _: {}, "test", 0)
    after = merged(model)
    reference = plain(lab)
    loss = objective.token_losses(reference, batches[0]).mean()
    loss.backward()
    weight = reference.get_parameter(f"{name}.weight")  # (in, out), as GPT-2 has it
    assert weight.grad is not None
    expected = weight.detach() - rate * s**2 * a.T @ a @ weight.grad
    torch.testing.assert_close(after.get_parameter(f"{name}.weight").detach(), expected, rtol=1e-4, atol=1e-6)
    assert float((expected - weight.detach()).abs().max()) > 1e-4


@pytest.mark.parametrize(
    "options",
    [
        {"r": 2},
        LORA,
        {"target_modules": "all-linear"},
        {"target_modules": r".*\.(c_fc|c_proj)", "use_rslora": True},
        {"bias": "all", **LORA},
    ],
)
def test_a_merged_model_loses_the_same(lab: Lab, options: dict[str, Any]) -> None:
    model, tokens = drawn(lab, options | {"init_lora_weights": False}).eval(), Blocks({"target": (lab.target, 1.0)}, 32, 3, seed=0)[0]
    objective = lab.world.objective
    with torch.no_grad():
        before, own = objective.token_losses(plain(lab), tokens), objective.token_losses(model, tokens)
        after = merged(model)
        torch.testing.assert_close(objective.token_losses(after, tokens), own, rtol=1e-4, atol=1e-5)
    assert float((own - before).abs().max()) > 1e-2
    assert not [name for name, _ in after.named_parameters() if "lora" in name]


def test_keep_best_ends_with_the_best_adapters(lab: Lab, tmp_path: Path) -> None:
    """A rate that ruins the model after some steps."""
    run_phase(lab, train_phase(30.0, total_steps=12, data="finetune", keep="best", schedule="constant"), tmp_path / "a")
    losses = pl.read_parquet(tmp_path / "a" / "curve.parquet")["target_loss"].to_list()
    assert min(losses) < losses[-1]
    validation = head_of(lab.world.tokenized(lab.world.corpus.validation), 300)
    assert mean_loss(load_model(tmp_path / "a"), lab.world, validation) == pytest.approx(min(losses), abs=1e-5)


def test_no_steps_are_no_adapters(lab: Lab, tmp_path: Path) -> None:
    assert run_phase(lab, train_phase(until=0.0), tmp_path / "a")["trained_parameters"] == 0
    before, after = plain(lab).state_dict(), weights_of(tmp_path / "a")
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_going_on_from_merged_weights(lab: Lab, tmp_path: Path) -> None:
    run_phase(lab, train_phase(), tmp_path / "a")
    state = State("made up").with_checkpoint("train", tmp_path / "a")
    with pytest.raises(InputError, match=r"phases\.train: start=resume: the checkpoint was trained with lora.*set .*\.start=weights"):
        run_phase(lab, train_phase(lora=None, start="resume"), tmp_path / "b", state)
    cost = run_phase(lab, train_phase(lora=None), tmp_path / "c", state)
    assert cost["trained_parameters"] == sum(p.numel() for p in plain(lab).parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_aplha": 8}, "phase train: lora.lora_aplha=8: peft.LoraConfig has no such option; did you mean lora_alpha?"),
        ({"xyz": 8}, "phase train: lora.xyz=8: peft.LoraConfig has no such option; its options are r, lora_alpha"),
        ({"task_type": "x"}, "phase train: lora.task_type=x: peft.LoraConfig has no such option"),
    ],
)
def test_options_are_checked_when_the_phase_is_made(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        train_phase(lora=options)


def test_new_adapters_have_no_state_to_resume() -> None:
    with pytest.raises(InputError, match="phase train: start=resume has no optimizer state for new adapters; set start=weights"):
        train_phase(start="resume")


def test_peft_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"phase train: lora: needs peft, which is not installed; pip install 'dsel\[lora\]'"):
        train_phase()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_modules": ["c_attn", "q_proj"]}, "there is no module 'q_proj'; modules there are c_attn, c_proj, c_fc, lm_head"),
        ({"target_modules": "nothing.*"}, "not found in the base model. Please check the target modules and try again.; modules there are"),
        ({"target_modules": ["ln_1"]}, "is not supported"),
        ({"r": -1}, "`r` should be a positive integer value but the value passed is -1"),
        ({"target_modules": ["wte"]}, "lora: wte shares its weights with another module, which would change too; leave it out"),
        ({"modules_to_save": ["lm_head"]}, "lora: lm_head shares its weights with another module"),
    ],
)
def test_what_cannot_be_adapted(lab: Lab, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as error:
        drawn(lab, options)
    assert str(error.value).startswith("lora")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("architecture", ["llama", "t5", "bert"])
def test_other_architectures(architecture: str) -> None:
    """By peft's own choice of modules; only they are trained, and none is left when they are merged."""
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    others = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = FromConfig(architecture, sizes if architecture == "t5" else others, context=8).build(300)
        names = [name for name, _ in model.named_parameters()]
        model = adapted(model, {"r": 2})
    assert all("lora_" in name for name, p in model.named_parameters() if p.requires_grad)
    assert [name for name, _ in merged(model).named_parameters()] == names


class Cutting(LanguageModeling):
    """Cuts three documents of every pool."""

    def num_cut(self, table: pa.Table, context: int) -> int:
        assert context == 32
        assert "dsel_tokens" in table.column_names
        return 3


def test_documents_that_are_cut_are_said(lab: Lab, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dsel"):
        phase, data = train_phase(lora=None, until=0.25), {"source": 0.5, "target": 0.5}
        assert run_phase(lab, phase, tmp_path / "a")["cut_documents"] == 0
        assert not caplog.messages
        cost = run_phase(lab, replace(phase, data=data), tmp_path / "b", objective=Cutting())
    assert cost["cut_documents"] == 6
    total = len(lab.source) + len(lab.target)
    assert caplog.messages == [
        f"phases.train: 6 of {total} training documents have a side longer than model.context=32 tokens and lose the rest; "
        "raise model.context"
    ]
    json.dumps(cost)
