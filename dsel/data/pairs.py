"""Parallel sentences: both sides as one text."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

BETWEEN = "\t"  # the sides in `text`, by which pairs are told apart, and which scorers read that look at both


def join_columns(src: pa.ChunkedArray, tgt: pa.ChunkedArray) -> pa.ChunkedArray:
    """Both sides as one text (row,); null where one is."""
    return pc.binary_join_element_wise(src, tgt, BETWEEN)


def count_same(src: pa.ChunkedArray, tgt: pa.ChunkedArray) -> int:
    """Rows with the same text on both sides: most are not translated."""
    return int(pc.sum(pc.equal(src, tgt)).as_py() or 0)
