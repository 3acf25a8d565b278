"""A stream of bytes in blocks that end where a row does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

NEW_LINE, QUOTE = 10, 34
MOST_ROW_BYTES = 1 << 30


def split(chunks: Iterable[bytes], is_csv: bool = False) -> Iterator[bytes]:
    """The chunks' bytes in blocks that end where a row does; a row that reaches `MOST_ROW_BYTES` is cut there."""
    held: list[bytes] = []  # the beginning of a row: joined once, when it ends
    size, is_open = 0, False
    for chunk in chunks:
        if is_csv:
            ends, is_open = _csv_ends(chunk, is_open)
            end = int(ends[-1]) if len(ends) else 0
        else:
            end = chunk.rfind(b"\n") + 1
        if not end and size < MOST_ROW_BYTES:
            held.append(chunk)
            size += len(chunk)
            continue
        yield b"".join([*held, chunk[:end]])
        held = [chunk[end:]]
        size = len(held[0])
    if data := b"".join(held):
        yield data


def first_end(data: bytes) -> int:
    """Where the header of CSV ends: the first row that is not blank."""
    start = 0
    for end in _csv_ends(data, False)[0].tolist():
        if data[start:end].strip():
            return int(end)
        start = end
    return len(data)


def _csv_ends(data: bytes, is_open: bool) -> tuple[npt.NDArray[np.int64], bool]:
    """Where rows end, line breaks outside of quotes; and whether a quote is open at the end. `is_open`: at the beginning."""
    letters = np.frombuffer(data, np.uint8)
    quotes = np.cumsum(letters == QUOTE, dtype=np.int32)
    outside = (quotes & 1) == int(is_open)
    return np.flatnonzero((letters == NEW_LINE) & outside) + 1, bool(len(quotes) and quotes[-1] & 1) != is_open
