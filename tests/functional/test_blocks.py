"""Every token is predicted exactly once, by windows and by blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsel.functional.blocks import IGNORE, batches_by_length, gather_blocks, num_blocks, windows

ragged = st.lists(st.integers(0, 40), min_size=1, max_size=20)


def offsets_of(lengths: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


@given(lengths=ragged, context=st.integers(1, 12))
def test_windows_predict_every_token_once(lengths: list[int], context: int) -> None:
    offsets = offsets_of(lengths)
    document, start, length = windows(offsets, context)
    predicted: list[tuple[int, int]] = []
    for which, first, size in zip(document.tolist(), start.tolist(), length.tolist(), strict=True):
        assert size <= context
        predicted += [(which, place) for place in range(first + 1, first + size + 1)]
    assert sorted(predicted) == [(d, p) for d in range(len(lengths)) for p in range(offsets[d] + 1, offsets[d + 1])]


@given(lengths=ragged, context=st.integers(1, 12), tokens_per_batch=st.integers(1, 60))
def test_batches_hold_every_window_once(lengths: list[int], context: int, tokens_per_batch: int) -> None:
    offsets = offsets_of(lengths)
    flat = np.arange(offsets[-1]) + 1000  # a token tells its place
    predicted: list[tuple[int, int]] = []
    for document, tokens in batches_by_length(flat, offsets, context, tokens_per_batch):
        assert tokens.shape[1] <= context + 1
        assert len(document) == 1 or len(document) * (tokens.shape[1] - 1) <= tokens_per_batch
        for which, row in zip(document.tolist(), tokens, strict=True):
            real = row[row != IGNORE]
            assert (row[: len(real)] == real).all()  # padding stands at the end
            assert (np.diff(real) == 1).all()
            predicted += [(which, int(token) - 1000) for token in real[1:]]
    assert sorted(predicted) == [(d, p) for d in range(len(lengths)) for p in range(offsets[d] + 1, offsets[d + 1])]


@given(num_tokens=st.integers(2, 300), context=st.integers(1, 20))
def test_blocks_predict_every_token_once(num_tokens: int, context: int) -> None:
    """All but the rest that fills no block; and the blocks, put together again, are the documents."""
    flat, count = np.arange(num_tokens), num_blocks(num_tokens, context)
    blocks = gather_blocks(flat, np.arange(count), context)
    assert blocks.shape == (count, context + 1)
    if num_tokens < context + 1:
        np.testing.assert_array_equal(blocks[0], np.arange(context + 1) % num_tokens)
        return
    back = np.concatenate([blocks[0, :1], *blocks[:, 1:]])
    np.testing.assert_array_equal(back, flat[: len(back)])
    assert num_tokens - len(back) < context


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_small_token_types_are_widened(dtype: type[np.integer]) -> None:
    flat = np.array([1, 60_000, 3, 4], dtype=dtype)
    assert gather_blocks(flat, np.array([0]), 3).dtype == np.int64
    (document, tokens), *_ = batches_by_length(flat, np.array([0, 4]), 8, 64)
    assert (document.tolist(), tokens.tolist()) == ([0], [[1, 60_000, 3, 4]])
