"""The masked model that is made from scratch, and the tokens of a text and of two."""

from __future__ import annotations

import pytest
import torch
from laboratory import Lab
from transformers import BertForMaskedLM

from dsel.error import InputError
from dsel.model.masked_lm import MaskedLM


def test_shape() -> None:
    model = MaskedLM(num_layers=3, dim=24, num_heads=4, context=20).build(70)
    assert isinstance(model, BertForMaskedLM)
    config = model.config
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.vocab_size) == (3, 24, 4, 70)
    assert config.max_position_embeddings == 21  # a block has a token more than the context
    assert model(torch.arange(21)[None]).logits.shape == (1, 21, 70)
    model.train()
    tokens = torch.arange(21)[None]
    assert torch.equal(model(tokens).logits, model(tokens).logits)  # without dropout


def test_weights_are_drawn_from_the_generator() -> None:
    models = []
    for seed in (0, 0, 1):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            models.append(MaskedLM(1, 16, 2, 16).build(50).bert.embeddings.word_embeddings.weight)  # type: ignore[operator,union-attr]
    assert torch.equal(models[0], models[1])
    assert not torch.equal(models[0], models[2])


def test_tokens(lab: Lab) -> None:
    tokenizer = MaskedLM(vocab_size=300).tokenizer(lab.world.corpus.source)
    assert len(tokenizer) == 300
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.mask_token_id) == (0, 1, 2)
    one, two = tokenizer("The cook stirs.")["input_ids"], tokenizer("The cook", "the soup é")["input_ids"]
    assert (one[0], one[-1], one.count(1)) == (1, 1, 2)
    assert (two[0], two[-1], two.count(1)) == (1, 1, 3)
    assert tokenizer.decode(one[1:-1]) == "The cook stirs."
    assert "token_type_ids" not in tokenizer("a", "b")


def test_mistakes() -> None:
    with pytest.raises(InputError, match=r"model\.vocab_size=259: must be at least 260"):
        MaskedLM(vocab_size=259)
    with pytest.raises(InputError, match=r"model\.dim=10: cannot be divided into model\.num_heads=4"):
        MaskedLM(dim=10).build(300)
