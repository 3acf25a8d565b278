from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsel.functional.order import Keys, Names, Order, descending
from dsel.functional.ranking import middle_out

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.one_of(st.integers(0, 9), st.integers(2**64 - 3, 2**64 - 1), st.integers(0, 2**64 - 1))


def in_parts(units: list[tuple[float, int]], cuts: list[int]) -> list[tuple[Keys, Names]]:
    keys, names = np.array([u[0] for u in units], np.float64), np.array([u[1] for u in units], np.uint64)
    cuts = sorted(c for c in cuts if c <= len(units))
    return list(zip(np.split(keys, cuts), np.split(names, cuts), strict=True))


def by_sorting(units: list[tuple[float, int]]) -> list[int]:
    """All units that count, sorted by Python."""
    order = sorted(range(len(units)), key=lambda i: (-units[i][0], units[i][1], i))
    seen: dict[int, int] = {}
    for unit in order:
        seen.setdefault(units[unit][1], unit)
    return list(seen.values())


@given(
    units=st.lists(st.tuples(st.one_of(st.integers(-2, 2).map(float), FLOATS), NAMES), min_size=1, max_size=50),
    cuts=st.lists(st.integers(0, 50), max_size=4),
    most=st.sampled_from([1, 3, 1000]),
    data=st.data(),
)
def test_equals_sorting_everything(units: list[tuple[float, int]], cuts: list[int], most: int, data: st.DataObject) -> None:
    parts, expected = in_parts(units, cuts), by_sorting(units)
    order = Order(lambda: iter(parts), most)
    assert len(order) == len(expected)
    assert [u for part in range(len(parts)) for u in (order.starts[part] + np.flatnonzero(order.mask(part))).tolist()] == sorted(expected)
    first = data.draw(st.integers(0, len(expected)))
    last = data.draw(st.integers(first, len(expected)))
    assert order.between(first, last).tolist() == expected[first:last]
    count = data.draw(st.integers(0, len(expected)))
    assert order.middle(count).tolist() == middle_out(np.array(expected))[:count].tolist()


@pytest.mark.parametrize("num_units", [1, 2, 5, 6])
def test_the_middle_by_hand(num_units: int) -> None:
    order = Order(lambda: [(-np.arange(num_units, dtype=float), np.arange(num_units, dtype=np.uint64))])
    expected = {1: [0], 2: [0, 1], 5: [2, 1, 3, 0, 4], 6: [2, 3, 1, 4, 0, 5]}[num_units]
    for count in range(num_units + 1):
        assert order.middle(count).tolist() == expected[:count]


@given(st.lists(FLOATS, min_size=2, max_size=20))
def test_descending_codes(keys: list[float]) -> None:
    codes = descending(np.array(keys)).tolist()
    for a, code_a in zip(keys, codes, strict=True):
        for b, code_b in zip(keys, codes, strict=True):
            assert (a > b) == (code_a < code_b)


def test_memory_is_a_bit_a_unit_and_what_is_asked_for() -> None:
    import tracemalloc

    size, num_parts = 20_000, 25

    def parts() -> Iterator[tuple[Keys, Names]]:
        for part in range(num_parts):
            rng = np.random.default_rng(part)
            yield rng.normal(size=size), rng.integers(2**63, size=size).astype(np.uint64)

    tracemalloc.start()
    order = Order(parts, most_at_once=size)
    middle = order.middle(100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    keys = np.concatenate([keys for keys, _ in parts()])
    assert middle.tolist() == middle_out(np.argsort(-keys))[:100].tolist()
    assert peak < 8 * size * num_parts  # the keys alone
