"""What stands twice, by dictionaries of Python."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsel.functional.repeats import find_first, hash_rows, warn_of_same_tasks

rows = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)))


def table(asked: list[tuple[str, str, str]]) -> pa.Table:
    """Rows of task, question and answer."""
    records = [{"task": task, "src": src, "tgt": tgt, "text": f"{src}\t{tgt}"} for task, src, tgt in asked]
    return pa.Table.from_pylist(records, pa.schema([(name, pa.string()) for name in ("task", "src", "tgt", "text")]))


@given(rows)
def test_the_first_stays(pairs: list[tuple[int, int]]) -> None:
    keys, tasks = (np.array([pair[side] for pair in pairs], np.uint64) for side in (0, 1))
    alone = list({key: row for row, key in reversed(list(enumerate(keys.tolist())))}.values())
    assert find_first(keys).tolist() == sorted(alone)
    apart = list({pair: row for row, pair in reversed(list(enumerate(pairs)))}.values())
    assert find_first(keys, tasks).tolist() == sorted(apart)


def test_what_a_row_is_known_by() -> None:
    one, two = hash_rows(table([("a", "q", "x"), ("b", "q", "y")]), apart=True)
    assert one == two
    one, two = hash_rows(table([("a", "q", "x"), ("b", "q", "y")]), apart=False)
    assert one != two


def test_tasks_with_the_same_rows_are_named(caplog: pytest.LogCaptureFixture) -> None:
    same = [("q", "x"), ("p", "y"), ("o", "x")]
    asked = [
        *(("b", *row) for row in same),
        *(("c", *row) for row in same[:2]),
        *(("a", *row) for row in same[::-1]),
        ("d", "q", "y"), *(("d", *row) for row in same[1:]),
        *(("e", *row) for row in same),
    ]  # fmt: skip
    with caplog.at_level(logging.WARNING, "dsel"):
        warn_of_same_tasks(table(asked))
    assert caplog.messages == ["sources a and b have the same 3 rows", "sources a and e have the same 3 rows"]
    caplog.clear()
    warn_of_same_tasks(table([]))
    assert not caplog.messages
