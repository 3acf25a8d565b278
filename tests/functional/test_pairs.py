"""Ragged lists by lists of Python."""

from __future__ import annotations

from itertools import chain

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dsel.functional.pairs import Ragged

lists = st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=6)


@given(lists, st.data())
def test_take(given_lists: list[list[int]], data: st.DataObject) -> None:
    """In any order, with repeats, of none."""
    rows = st.lists(st.integers(0, len(given_lists) - 1), max_size=8) if given_lists else st.just([])
    which = data.draw(rows)
    whole = Ragged(np.array(list(chain.from_iterable(given_lists)), np.int32), np.cumsum([0, *map(len, given_lists)]))
    found = whole.take(np.array(which, np.int64))
    assert found.flat.dtype == np.int32
    assert found.offsets.dtype == np.int64
    assert found.offsets[0] == 0
    assert [found.flat[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)] == [given_lists[row] for row in which]
