from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsel.functional.best import Best


@pytest.mark.parametrize("with_costs", [False, True])
@given(
    units=st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 20)), min_size=1, max_size=60),
    budget=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 60), max_size=5),
    seed=st.integers(0, 9),
)
def test_equals_sorting_everything(with_costs: bool, units: list[tuple[int, int]], budget: int, cuts: list[int], seed: int) -> None:
    keys, names = np.array([u[0] for u in units], float), np.array([u[1] for u in units], np.uint64)
    costs = np.array([u[1] % 5 + 1 for u in units]) if with_costs else np.ones(len(units), np.int64)
    seen: set[int] = set()
    expected, spent = [], 0
    for place in sorted(range(len(units)), key=lambda i: (-keys[i], names[i], i)):
        if int(names[place]) in seen:
            continue
        seen.add(int(names[place]))
        spent += int(costs[place])
        if spent > budget and expected:
            break
        expected.append(place)
    best = Best(budget)
    for part in np.array_split(np.random.default_rng(seed).permutation(len(units)), sorted(c for c in cuts if c <= len(units))):
        best.add(keys[part], names[part], part, costs[part] if with_costs else None, double=2 * part)
        best._compact()
    found = best.result()
    assert found["place"].tolist() == expected
    assert found["double"].tolist() == [2 * place for place in expected]


def test_memory_is_bound_by_the_budget() -> None:
    best, rng = Best(100), np.random.default_rng(0)
    every = []
    for part in range(50):
        keys = rng.normal(size=10_000)
        every.append(keys)
        best.add(keys, rng.integers(2**63, size=10_000).astype(np.uint64), np.arange(10_000) + part * 10_000)
        assert best.num_new + len(best.kept.get("key", ())) <= 1 << 17
    assert np.array_equal(best.result()["key"], np.sort(np.concatenate(every))[::-1][:100])
