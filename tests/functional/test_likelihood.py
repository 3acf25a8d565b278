"""Losses of documents from sorted batches against a loop over documents."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from laboratory import Lab

from dsel.functional.blocks import flat_tokens
from dsel.functional.likelihood import document_losses
from dsel.objective.language_modeling import LanguageModeling
from dsel.training.evaluation import head_of, mean_loss

token_lists = st.lists(st.lists(st.integers(0, 255), max_size=90), min_size=1, max_size=6)


def column(rows: list[list[int]]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(rows, pa.list_(pa.uint16()))])


def loop(model: torch.nn.Module, ids: list[int], context: int) -> float:
    total = 0.0
    for start in range(0, len(ids) - 1, context):
        window = torch.tensor([ids[start : start + context + 1]])
        with torch.inference_mode():
            log_p = model(input_ids=window[:, :-1]).logits.double().log_softmax(-1)
        total -= float(log_p[0].gather(1, window[0, 1:, None]).sum())
    return total


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=token_lists, tokens_per_batch=st.sampled_from([1, 40, 2048]))
def test_equals_a_loop_over_documents(lab: Lab, rows: list[list[int]], tokens_per_batch: int) -> None:
    models = [lab.context().load(None), lab.context().load("pretrain")]
    losses, counts = document_losses(models, LanguageModeling(), pa.table({"dsel_tokens": column(rows)}), 32, tokens_per_batch)
    assert counts.tolist() == [max(0, len(row) - 1) for row in rows]
    np.testing.assert_allclose(losses[:, 0], [loop(models[0], row, 32) for row in rows], rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(losses[:, 0], losses[:, 1])


@given(rows=token_lists, cut=st.integers(0, 5), first=st.integers(0, 3))
def test_flat_tokens_sees_slices_and_chunks_alike(rows: list[list[int]], cut: int, first: int) -> None:
    whole = column(rows)
    for given_column in (whole.slice(first), pa.chunked_array([*column(rows[:cut]).chunks, *column(rows[cut:]).chunks]).slice(first)):
        flat, offsets = flat_tokens(given_column)
        assert offsets[0] == 0
        assert [flat[a:b].tolist() for a, b in pairwise(offsets)] == rows[first:]


def test_mean_loss_weighs_tokens_not_documents(lab: Lab) -> None:
    model, pool = lab.context().load(None), lab.target
    rows = pool.table["dsel_tokens"].to_pylist()
    expected = sum(loop(model, row, 32) for row in rows) / sum(len(row) - 1 for row in rows)
    assert mean_loss(model, lab.world, pool) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("num_tokens", [1, 200, 10**9])
def test_the_head_of_a_pool_holds_about_that_many_tokens(lab: Lab, num_tokens: int) -> None:
    head, lengths = head_of(lab.source, num_tokens), lab.source.token_counts()
    held = int(head.token_counts().sum())
    assert min(num_tokens, int(lengths.sum())) <= held <= num_tokens + int(lengths.max())
    assert head.fingerprint == head_of(lab.source, num_tokens).fingerprint
    assert len(set(head.ids())) == len(head)


def test_padding_is_neither_read_nor_predicted(lab: Lab) -> None:
    model, objective = lab.context().load(None), LanguageModeling()
    tokens = torch.tensor([[5, 6, 7, 8, 9], [5, 6, 7, -100, -100]])
    with torch.inference_mode():
        losses = objective.token_losses(model, tokens)
    assert losses.shape == (2, 4)
    torch.testing.assert_close(losses[1, :2], losses[0, :2])
    assert losses[1, 2:].tolist() == [0.0, 0.0]
