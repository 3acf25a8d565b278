"""Encoders with a head against transformers' own outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ranking_lab import save_encoder, tiny_bert
from transformers import AutoModel, AutoTokenizer, BertForMaskedLM, DistilBertConfig, DistilBertModel, PreTrainedTokenizerBase

from dsel.base_encoder import BaseEncoder
from dsel.error import InputError
from dsel.functional.blocks import IGNORE
from dsel.functional.pairs import Ragged
from dsel.functional.task_model import POOLINGS, TaskModel, load_weights, run_rows
from dsel.labelled import LabelledTask

FIRST = ["red cat one", "blue", "small dog two three four five", "eel"]
SECOND = ["large eel", "one two three", "", "red"]


def pair_task(second: list[str] | None) -> LabelledTask:
    return LabelledTask("pairs", FIRST, second, np.array([0, 1, 0, 1]), ("no", "yes"), list("abcd"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return found


def base_encoder(folder: Path, pooling: str) -> BaseEncoder:
    return BaseEncoder(str(folder), "tiny", pooling, 16, "key")


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("second", [None, SECOND])
def test_embeddings_are_those_of_transformers(
    folder: Path, tokenizer: PreTrainedTokenizerBase, pooling: str, second: list[str] | None
) -> None:
    """The tokenizer's own `token_type_ids`, and texts one at a time, without padding."""
    base, model = base_encoder(folder, pooling), AutoModel.from_pretrained(folder).eval()
    own = base.model(3, 0).eval()
    embeddings, outputs = run_rows(own, base.encode(pair_task(second), tokenizer)[0], 16, 30)
    for row, text in enumerate(FIRST):
        given = tokenizer([text], [second[row]] if second else None, return_tensors="pt")
        assert set(given["token_type_ids"][0].tolist()) == ({0, 1} if second else {0})
        with torch.inference_mode():
            states = model(**given)
        expected = {"cls": states.last_hidden_state[0, 0], "mean": states.last_hidden_state[0].mean(0), "pooler": states.pooler_output[0]}
        np.testing.assert_allclose(embeddings[row], expected[pooling], atol=1e-5)
        by_hand = expected[pooling].numpy() @ own.head.weight.detach().numpy().T + own.head.bias.detach().numpy()
        np.testing.assert_allclose(outputs[row], by_hand, atol=1e-5)


def test_sides_are_those_of_the_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """In a batch, before padding."""
    model = base_encoder(folder, "cls").model(2, 0)
    seen = {}
    model.encoder.register_forward_pre_hook(lambda _, __, given: seen.update(given), with_kwargs=True)
    given = tokenizer(FIRST, SECOND, padding=True, return_tensors="pt")
    real = given["attention_mask"].bool()
    model(given["input_ids"].masked_fill(~real, IGNORE))
    assert torch.equal(seen["attention_mask"], given["attention_mask"])
    assert torch.equal(seen["input_ids"][real], given["input_ids"][real])
    assert torch.equal(seen["token_type_ids"][real], given["token_type_ids"][real])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_and_batches_change_nothing(folder: Path, tokenizer: PreTrainedTokenizerBase, pooling: str) -> None:
    base = base_encoder(folder, pooling)
    model, tokens = base.model(2, 0).eval(), base.encode(pair_task(SECOND), tokenizer)[0]
    together = run_rows(model, tokens, 16, 4096)
    alone = run_rows(model, tokens, 16, 1)
    for one, other in zip(together, alone, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, atol=1e-6)
    for row in range(len(FIRST)):
        first, last = tokens.offsets[row : row + 2]
        single = run_rows(model, Ragged(tokens.flat[first:last], np.array([0, last - first])), 16, 4096)
        np.testing.assert_allclose(single[0][0], together[0][row], atol=1e-6)


def test_no_more_tokens_than_the_longest(folder: Path) -> None:
    model, flat = base_encoder(folder, "mean").model(2, 0).eval(), np.arange(4, 14)
    cut = run_rows(model, Ragged(flat, np.array([0, 10])), 6, 100)[0]
    np.testing.assert_allclose(cut, run_rows(model, Ragged(flat[:6], np.array([0, 6])), 6, 100)[0], atol=1e-6)
    assert not np.allclose(cut, run_rows(model, Ragged(flat, np.array([0, 10])), 16, 100)[0])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_what_is_saved_is_loaded(folder: Path, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, pooling: str) -> None:
    base = base_encoder(folder, pooling)
    model, tokens = base.model(3, 5).eval(), base.encode(pair_task(SECOND), tokenizer)[0]
    model.save(tmp_path, {"task": "pairs"})
    before = torch.get_rng_state()
    again, card = TaskModel.load(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert card["task"] == "pairs"
    assert (again.pooling, again.separator) == (pooling, 3)
    assert not again.training
    for one, other in zip(run_rows(model, tokens, 16, 64), run_rows(again, tokens, 16, 64), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_head_hangs_on_its_seed_alone(folder: Path) -> None:
    base, before = base_encoder(folder, "mean"), torch.get_rng_state()
    one, same, other = base.model(2, 3), base.model(2, 3), base.model(2, 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.head.weight, same.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)


def test_an_encoder_without_sides_or_pooler(tmp_path: Path) -> None:
    config = DistilBertConfig(vocab_size=60, dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=40)
    base = base_encoder(save_encoder(tmp_path, DistilBertModel(config)), "pooler")
    model = base.model(2, 0)
    assert model.separator is None
    with pytest.raises(InputError, match=r"encoder\.pooling=pooler: the encoder has no pooler; give encoder\.pooling=cls or mean"):
        model(torch.tensor([[2, 5, 3]]))


def test_a_language_model_is_read_without_its_head(tmp_path: Path) -> None:
    bert = tiny_bert()
    bert.save_pretrained(tmp_path / "bare")
    masked = BertForMaskedLM(bert.config)
    masked.bert.load_state_dict(bert.state_dict(), strict=False)
    masked.save_pretrained(tmp_path / "masked")
    tokens = torch.tensor([[2, 5, 6, 3]])
    states = [load_weights(str(tmp_path / name)).eval()(tokens).last_hidden_state for name in ("bare", "masked")]
    torch.testing.assert_close(*states)


def test_nothing_to_load(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no encoder can be loaded from that folder or hub name") as raised:
        load_weights(str(tmp_path))
    assert "\n" not in str(raised.value)
