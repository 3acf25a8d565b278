"""Losses of answers at masks against texts one at a time, without padding; and which rows of pairs are cut."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertForMaskedLM

from dsel.error import InputError
from dsel.functional.blocks import IGNORE
from dsel.functional.likelihood import document_losses
from dsel.objective.cloze import Cloze
from dsel.objective.language_modeling import LanguageModeling
from dsel.objective.pairs import Pairs
from dsel.pool import SOURCE_TOKENS, TOKENS

MASK, END, CONTEXT = 2, 1, 6
side = st.lists(st.integers(3, 19), max_size=9)
seeds = st.integers(0, 9)


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=2 * CONTEXT + 1,
            vocab_size=20, pad_token_id=0, eos_token_id=END, mask_token_id=MASK,
        )  # fmt: skip
        return BertForMaskedLM(config).eval()


def losses_of(model: torch.nn.Module, question: list[int], answer: list[int]) -> list[float]:
    """Of the answer's tokens, by hand."""
    text = torch.tensor([[*question, *[MASK] * len(answer), END]])
    with torch.inference_mode():
        scores = model(text).logits.double().log_softmax(-1)[0]
    return [-float(scores[len(question) + place, token]) for place, token in enumerate(answer)]


def make_table(pairs: list[tuple[list[int], list[int]]]) -> pa.Table:
    kind = pa.list_(pa.uint16())
    return pa.table({SOURCE_TOKENS: pa.array([[1, *q] for q, _ in pairs], kind), TOKENS: pa.array([[1, *a] for _, a in pairs], kind)})


def test_an_answer_is_read_at_masks_behind_its_question(model: torch.nn.Module) -> None:
    rows = [([1, 5, 6, 7], [3, 4]), ([1, 9], [11, 12, 13, 7]), ([1], [5])]
    batch = Pairs(
        torch.tensor([q + [IGNORE] * (4 - len(q)) for q, _ in rows]), torch.tensor([[1, *a] + [IGNORE] * (4 - len(a)) for _, a in rows])
    )
    losses = Cloze().token_losses(model, batch)
    assert Cloze().predicted(batch).sum(1).tolist() == [2, 4, 1]
    for row, (question, answer) in enumerate(rows):
        torch.testing.assert_close(losses[row, : len(answer)].tolist(), losses_of(model, question, answer), rtol=1e-4, atol=1e-5)
        assert losses[row, len(answer) :].eq(0).all()


@settings(max_examples=15, deadline=None)
@given(
    pairs=st.lists(st.tuples(side, side), min_size=1, max_size=9), tokens_per_batch=st.sampled_from([1, 20, 500]), seed=st.integers(0, 9)
)
def test_neither_batch_nor_order_matters(
    model: torch.nn.Module, pairs: list[tuple[list[int], list[int]]], tokens_per_batch: int, seed: int
) -> None:
    table, order = make_table(pairs), np.random.default_rng(seed).permutation(len(pairs))
    losses, counts = document_losses([model], Cloze(), table.take(pa.array(order)), CONTEXT, tokens_per_batch)
    assert counts.tolist() == [min(len(pairs[at][1]), CONTEXT) for at in order]
    expected = [sum(losses_of(model, [1, *pairs[at][0]][:CONTEXT], pairs[at][1][:CONTEXT])) for at in order]
    np.testing.assert_allclose(losses[:, 0], expected, rtol=1e-4, atol=1e-4)


@given(pairs=st.lists(st.tuples(side, side), max_size=9), context=st.integers(1, 11))
def test_rows_that_are_cut(pairs: list[tuple[list[int], list[int]]], context: int) -> None:
    """Those of which a batch holds less than the table does."""
    table, num_cut = make_table(pairs), 0
    for which, batch in Cloze().rows(table, context, 20):
        held = (batch.source != IGNORE).sum(1) + (batch.target != IGNORE).sum(1)
        num_cut += sum(int(held[row]) < len(pairs[at][0]) + len(pairs[at][1]) + 2 for row, at in enumerate(which))
    assert Cloze().num_cut(table, context) == num_cut
    assert LanguageModeling().num_cut(table, context) == 0


def test_a_model_without_a_mask() -> None:
    config = BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=20, eos_token_id=END)
    with pytest.raises(InputError, match="objective Cloze: the model's config has mask_token_id=None; give a masked language model"):
        Cloze().token_losses(BertForMaskedLM(config), Pairs(torch.tensor([[1, 5]]), torch.tensor([[1, 6]])))
