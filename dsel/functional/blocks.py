"""Ragged token lists to rectangles: windows for scoring, packed blocks for training. Pure numpy, nothing is padded that could be packed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

IGNORE = -100  # padding: neither read nor predicted
Ints = npt.NDArray[np.int64]


def flat_tokens(tokens: pa.ChunkedArray) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.int64]]:
    """The list column's values end to end, and where each document starts (document + 1,); copies only across chunks."""
    array = tokens.combine_chunks() if isinstance(tokens, pa.ChunkedArray) else tokens
    if isinstance(array, pa.ChunkedArray):  # an empty column has no chunk to combine
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], tokens.type)
    offsets = array.offsets.to_numpy().astype(np.int64)
    values = array.values.to_numpy()
    return (values[offsets[0] : offsets[-1]], offsets - offsets[0]) if len(array) else (values[:0], np.zeros(1, np.int64))


def num_blocks(num_tokens: int, context: int) -> int:
    """How many blocks of `context` predictions `num_tokens` fill; at least one, since short texts are repeated."""
    return max(1, (num_tokens - 1) // context)


def gather_blocks(flat: npt.NDArray[np.integer], which: Ints, context: int) -> Ints:
    """Blocks (block, context + 1) number `which` of the concatenated documents `flat`.

    Neighbouring blocks share one token, so that every token is predicted exactly once. Fewer tokens than one block are repeated.
    """
    if len(flat) < context + 1:
        flat = np.resize(flat, context + 1)
    blocks: Ints = flat[which[:, None] * context + np.arange(context + 1)].astype(np.int64)
    return blocks


def windows(offsets: Ints, context: int) -> tuple[Ints, Ints, Ints]:
    """Cut documents into windows of at most `context` predicted tokens: document, start in the flat array, length.

    `offsets` (document + 1,). A window of length n reads n + 1 tokens and predicts n; windows of a document share one token.
    """
    lengths = np.maximum(np.diff(offsets) - 1, 0)
    counts = np.maximum(-(-lengths // context), 1)
    document = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    return document, offsets[document] + number * context, np.minimum(lengths[document] - number * context, context)


def batches_by_length(flat: npt.NDArray[np.integer], offsets: Ints, context: int, tokens_per_batch: int) -> Iterator[tuple[Ints, Ints]]:
    """All windows of all documents, longest first: document (row,), tokens (row, time + 1) padded with `IGNORE`.

    Sorted by length, so that a batch of about `tokens_per_batch` tokens holds next to no padding.
    """
    document, start, length = windows(offsets, context)
    order = np.argsort(-length, kind="stable")
    document, start, length = document[order], start[order], length[order]
    first = 0
    while first < len(order) and length[first] > 0:
        rows = slice(first, first + max(1, tokens_per_batch // int(length[first])))
        time = np.arange(int(length[first]) + 1)
        real = time <= length[rows, None]
        tokens = np.where(real, flat[np.minimum(start[rows, None] + time, len(flat) - 1)].astype(np.int64), IGNORE)
        yield document[rows], tokens
        first = rows.stop
