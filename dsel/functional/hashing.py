"""A 64-bit name for every text, from Arrow's buffers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Texts: TypeAlias = "pa.Array | pa.ChunkedArray"
_PRIME = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_S29, _S32 = np.uint64(29), np.uint64(32)


def text_buffers(texts: Texts) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.integer[Any]]]]:
    """UTF-8 bytes and offsets (document + 1,) of each chunk, without a copy. A null is an empty text."""
    for chunk in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
        if len(chunk) == 0:
            continue
        array = chunk if pa.types.is_string(chunk.type) else chunk.cast(pa.large_string())
        array = pc.fill_null(array, "") if array.null_count else array
        kind: Any = np.int32 if pa.types.is_string(array.type) else np.int64
        _, ends, values = array.buffers()
        offsets = np.frombuffer(ends, kind)[array.offset : array.offset + len(array) + 1]
        yield np.frombuffer(values or b"", np.uint8), offsets


def hash_texts(texts: Texts) -> npt.NDArray[np.uint64]:
    """The name of each text (document,): the same on every machine, different for different texts but in 1 of 2**64 pairs."""
    return np.concatenate([np.empty(0, np.uint64), *(_hash(data, offsets) for data, offsets in text_buffers(texts))])


def hex_names(names: npt.NDArray[np.uint64]) -> pa.StringArray:
    """Names (document,) as strings of 16 hexadecimal digits."""
    digits = names.astype(">u8").tobytes().hex().encode()
    ends = np.arange(len(names) + 1, dtype=np.int32) * 16
    return pa.StringArray.from_buffers(len(names), pa.py_buffer(ends), pa.py_buffer(digits))


def remix(names: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.uint64]:
    """Other names (document,) for the same texts, unrelated between seeds."""
    with np.errstate(over="ignore"):
        value = (names ^ np.uint64((seed * 0xD6E8FEB86659FD93 + 0x2545F4914F6CDD1D) % 2**64)) * _PRIME
        value = (value ^ (value >> _S32)) * _MIX
        return np.asarray(value ^ (value >> _S29), dtype=np.uint64)


def distinct(names: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Each name once, ascending: by a sort, which of numbers is several times as fast as the table of `np.unique`."""
    ordered = np.sort(names)
    return ordered[np.r_[True, ordered[1:] != ordered[:-1]]] if len(ordered) else ordered


def draw_by_text(texts: Texts, count: int, seed: int) -> npt.NDArray[np.int64]:
    """`count` documents drawn by their texts and the seed, in an order that those decide: it does not hang on the others' order."""
    names = hash_texts(texts)
    return np.lexsort((names, remix(names, seed)))[:count].astype(np.int64)


@nb.njit(nogil=True, cache=True)
def _hash(data, offsets):  # type: ignore[no-untyped-def]
    names = np.empty(len(offsets) - 1, np.uint64)
    for document in range(len(offsets) - 1):
        start, stop = np.int64(offsets[document]), np.int64(offsets[document + 1])
        name = np.uint64(stop - start) * _MIX
        word, have = np.uint64(0), 0
        for at in range(start, stop):
            word |= np.uint64(data[at]) << np.uint64(8 * have)
            have += 1
            if have == 8:
                name = (name ^ word) * _PRIME
                name ^= name >> _S32
                word, have = np.uint64(0), 0
        name = (name ^ word) * _PRIME
        name = (name ^ (name >> _S32)) * _MIX
        names[document] = name ^ (name >> _S29)
    return names
