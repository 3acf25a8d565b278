"""Models of four architectures from their configs: what they are, what they learn, and that every way to a gradient works on them."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from command import dsel
from omegaconf import OmegaConf

from dsel import cli
from dsel.error import InputError
from dsel.functional.alignment import by_double_backward, by_finite_difference, by_jvp, gradient, plain_attention
from dsel.functional.blocks import IGNORE
from dsel.model.from_config import FromConfig
from dsel.objective.cloze import Cloze
from dsel.objective.instruction import Instruction
from dsel.objective.pairs import Pairs
from dsel.objective.translation import Translation
from dsel.pool import SRC, TGT, Pool, fingerprint_table
from dsel.tokens import Side, Tokenize, end_token, start_token
from dsel.training.checkpoint import load_model, save_model

OBJECTIVES = {"gpt2_tiny": Instruction(), "llama_tiny": Instruction(), "t5_tiny": Translation(), "bert_tiny": Cloze()}
CLASSES = {
    "gpt2_tiny": "GPT2LMHeadModel",
    "llama_tiny": "LlamaForCausalLM",
    "t5_tiny": "T5ForConditionalGeneration",
    "bert_tiny": "BertForMaskedLM",
}
SMALL = {"n_layer": 1, "n_embd": 16, "n_head": 2}


def recipe_of(name: str) -> FromConfig:
    cli.register_resolvers()
    node: Any = OmegaConf.to_container(OmegaConf.load(cli.CONF / "model" / f"{name}.yaml"), resolve=True)  # without a width: the usual one
    assert node.pop("_target_") == "dsel.model.from_config.FromConfig"
    return FromConfig(**node)


@cache
def built(name: str, seed: int = 0) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return recipe_of(name).build(512)


def batch(*lengths: tuple[int, int]) -> Pairs:
    """Random pairs of so many tokens, padded at their ends."""
    generator = torch.Generator().manual_seed(1)
    sides = []
    for side in zip(*lengths, strict=True):
        tokens = torch.randint(3, 512, (len(side), max(side)), generator=generator)
        sides.append(tokens.where(torch.arange(max(side)) < torch.tensor(side)[:, None], IGNORE))
    return Pairs(*sides)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_tiny_one(name: str) -> None:
    recipe, model = recipe_of(name), built(name)
    assert recipe.objective == OBJECTIVES[name]
    assert type(model).__name__ == CLASSES[name]
    assert 0.1e6 < sum(p.numel() for p in model.parameters()) < 0.3e6
    longest = batch((64, 65), (3, 4), (64, 4), (3, 65))
    losses = recipe.objective.token_losses(model, longest)  # in training mode, yet nothing drops out
    assert torch.equal(losses, recipe.objective.token_losses(model, longest))
    predicted = recipe.objective.predicted(longest)
    assert predicted.sum(1).tolist() == [64, 3, 3, 64]
    assert losses[~predicted].eq(0).all()
    assert losses[predicted].mean().item() == pytest.approx(torch.tensor(512.0).log().item(), rel=0.15)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_padding_changes_nothing(name: str) -> None:
    model, objective, lengths = built(name), OBJECTIVES[name], ((9, 5), (2, 12), (1, 2), (30, 3))
    together = batch(*lengths)
    losses = objective.token_losses(model, together)
    for row, (source, target) in enumerate(lengths):
        alone = objective.token_losses(model, Pairs(together.source[row : row + 1, :source], together.target[row : row + 1, :target]))
        torch.testing.assert_close(losses[row, : target - 1], alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_ways_to_a_gradient_agree(name: str) -> None:
    """Forward derivatives against two backward passes, and both against losses at weights a step away."""
    model, objective, pairs = built(name), OBJECTIVES[name], batch((9, 5), (2, 12), (7, 3))

    def losses(some: torch.nn.Module) -> torch.Tensor:
        return objective.token_losses(some, pairs)

    direction = gradient(model, losses(model)[0].sum())
    with plain_attention():
        expected = by_double_backward(model, losses(model), direction)
    values, slopes = by_jvp(model, losses, direction)
    scale = float(expected.abs().max())
    torch.testing.assert_close(slopes, expected, rtol=1e-4, atol=1e-5 * scale)
    torch.testing.assert_close(values, losses(model), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(by_finite_difference(model, losses, direction, 1e-3), expected, rtol=0, atol=0.005 * scale)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_survives_the_disk(name: str, tmp_path: Path) -> None:
    model, objective, pairs = built(name), OBJECTIVES[name], batch((9, 5), (2, 12))
    save_model(model, tmp_path)
    back = load_model(tmp_path)
    assert type(back) is type(model)
    assert all(p.requires_grad for p in back.parameters())
    assert torch.equal(objective.token_losses(back, pairs), objective.token_losses(model, pairs))


def test_a_checkpoint_that_names_no_class_is_a_causal_model(tmp_path: Path) -> None:
    save_model(built("gpt2_tiny"), tmp_path)
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for architectures in (None, ["NotThereForCausalLM"]):
        path.write_text(json.dumps(config | {"architectures": architectures}), encoding="utf-8")
        assert type(load_model(tmp_path)).__name__ == "GPT2LMHeadModel"


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_tokenizer_knows_the_models_tokens(name: str) -> None:
    recipe, config = recipe_of(name), built(name).config
    table = pa.table({SRC: ["12 plus 30 =", "Größe?"] * 20, TGT: ["42", "groß"] * 20})
    tokenizer = recipe.tokenizer(Pool("source", table, fingerprint_table(table)))
    assert 259 <= len(tokenizer) <= 512
    assert (start_token(tokenizer), end_token(tokenizer)) == (config.bos_token_id, config.eos_token_id)  # type: ignore[union-attr]
    assert config.pad_token_id in (tokenizer.pad_token_id, None)  # type: ignore[union-attr]
    assert tokenizer.mask_token_id == getattr(config, "mask_token_id", None)
    for text in ("12 plus 30 =", "naïve 😀"):
        ids = Tokenize(tokenizer, {}).lists([text], Side(SRC, begin=True, end=True))[0].as_py()
        assert tokenizer.decode(ids[1:-1]) == text
        assert (ids[0], ids[-1]) == (config.bos_token_id, config.eos_token_id)  # type: ignore[union-attr]


def test_weights_come_from_torchs_generator() -> None:
    one, same, other = (list(built.__wrapped__("bert_tiny", seed).parameters()) for seed in (0, 0, 1))
    assert all(torch.equal(p, q) for p, q in zip(one, same, strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(one, other, strict=True))


def test_options_are_those_of_the_config() -> None:
    model: Any = FromConfig("gpt2", {"n_layer": 1, "hidden_size": 32, "n_head": 2, "resid_pdrop": 0.5}, context=9).build(300)
    config = model.config
    assert (config.n_layer, config.n_embd, config.resid_pdrop, config.embd_pdrop, config.attn_pdrop) == (1, 32, 0.5, 0.0, 0.0)
    assert config.n_positions >= 18
    assert model.transformer.wte.weight.shape == (300, 32)


@pytest.mark.parametrize(
    ("architecture", "options", "message"),
    [
        ("gpt3", {}, "model.architecture=gpt3: transformers has no language model of that type; did you mean gpt"),
        ("vit", {}, "model.architecture=vit: transformers has no language model of that type"),
        ("", {}, "give its model_type, such as gpt2, llama, t5 or bert"),
        ("gpt2", {"n_layers": 2}, "model.options.n_layers=2: GPT2Config has no such key; did you mean n_layer?"),
        ("t5", {"zzz": 2}, "model.options.zzz=2: T5Config has no such key; its arguments are those of transformers.T5Config"),
        ("gpt2", {"vocab_size": 9}, "model.options.vocab_size=9: follows from model.context, model.vocab_size and the tokenizer"),
        ("gpt2", {"max_position_embeddings": 9}, "model.options.max_position_embeddings=9: follows from model.context"),
        ("bert", {"mask_token_id": 4}, "model.options.mask_token_id=4: follows from"),
        ("gpt2", SMALL | {"n_head": "two"}, "model.options={'n_layer': 1, 'n_embd': 16, 'n_head': 'two'}: GPT2Config cannot be made"),
        ("gpt2", SMALL | {"n_head": 3}, "model.options={'n_layer': 1, 'n_embd': 16, 'n_head': 3}: make no model"),
    ],
)
def test_what_transformers_does_not_know(architecture: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as error:
        FromConfig(architecture, options).build(300)
    assert "\n" not in str(error.value)


def test_a_vocabulary_without_room_for_the_bytes() -> None:
    with pytest.raises(InputError, match=r"model\.vocab_size=256: must be at least 260"):
        FromConfig("gpt2", SMALL, vocab_size=256)


def test_a_run(tmp_path: Path) -> None:
    """From pairs to a loss, with adapters: a sequence of masks has to be trained, saved and found again."""
    given = ["data.num_source=120", "data.num_target=60", "steps.total=4", "hydra.mode=RUN", "phases.train.warmup=1"]
    given += ["pipeline=[train,loss]", "model=bert_tiny", "model.options.num_hidden_layers=1", "phases.train.lora={r: 2}"]
    answer = dsel("experiment=loss_masking", *given, outputs=tmp_path)
    assert (answer.code, answer.err) == (0, "")
    (path,) = tmp_path.rglob("result.json")
    result = json.loads(path.read_text(encoding="utf-8"))
    assert 5 < result["metrics"]["target_loss_trained"] < 7
    cost = result["cost"]["phases"]["train"]
    assert cost["trained_parameters"] == 2 * 2 * (64 + 64)  # of one layer's queries and values
    assert cost["cut_documents"] == 0
