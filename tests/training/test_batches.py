"""Batches: a pure function of (seed, step)."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_corpus import RandomState

from dsel.error import InputError
from dsel.objective.blocks import Blocks
from dsel.pool import TOKENS, Pool


def pool_of(num_tokens: int, first: int = 0, lengths: int = 7) -> Pool:
    """Tokens that tell their place, in documents of a few tokens."""
    flat = list(range(first, first + num_tokens))
    rows = [flat[start : start + lengths] for start in range(0, num_tokens, lengths)]
    return Pool("made up", pa.table({TOKENS: pa.array(rows, pa.list_(pa.int32()))}), "made up")


@given(num_blocks=st.integers(1, 13), batch_size=st.integers(1, 5), seed=st.integers(0, 3))
def test_each_block_comes_once_an_epoch(num_blocks: int, batch_size: int, seed: int) -> None:
    context, epochs = 4, 3
    batches = Blocks({"a": (pool_of(num_blocks * context + 1), 1.0)}, context, batch_size, seed)
    rows = [row for step in range(-(-epochs * num_blocks // batch_size)) for row in batches[step].tolist()]
    orders = [[row[0] // context for row in rows[e * num_blocks : (e + 1) * num_blocks]] for e in range(epochs)]
    for order in orders:
        assert sorted(order) == list(range(num_blocks))
    assert all(row == list(range(row[0], row[0] + context + 1)) for row in rows)
    if num_blocks > 6:
        assert orders[0] != orders[1]


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    make = lambda seed: Blocks({"a": (pool_of(401), 1.0), "b": (pool_of(99, 1000), 2.0)}, 8, 6, seed)  # noqa: E731
    before, one, other = RandomState.now(), make(1), make(1)
    forwards = [one[step].tolist() for step in range(9)]
    assert [other[step].tolist() for step in reversed(range(9))] == forwards[::-1]
    assert forwards != [make(2)[step].tolist() for step in range(9)]
    assert RandomState.now() == before


@given(
    shares=st.lists(st.floats(0.01, 1), min_size=1, max_size=5), batch_size=st.integers(1, 9), steps=st.integers(1, 60)
)  # fmt: skip
def test_shares_of_a_mixture_are_exact(shares: list[float], batch_size: int, steps: int) -> None:
    """Every batch is full, and after any number of steps each pool has given its share of all rows, but for rounding."""
    pools = {str(number): (pool_of(33, 1000 * number), share) for number, share in enumerate(shares)}
    batches = Blocks(pools, 4, batch_size, seed=0)
    seen: Counter[int] = Counter()
    for step in range(steps):
        batch = batches[step].numpy()
        assert len(batch) == batch_size
        seen.update((batch[:, 0] // 1000).tolist())
        for number, share in enumerate(shares):
            assert abs(seen[number] - share / sum(shares) * batch_size * (step + 1)) < 2


def test_a_mixture_visits_each_pools_blocks_once_an_epoch() -> None:
    pools = {name: (pool_of(8 * 4 + 1, first), share) for name, first, share in (("a", 0, 0.5), ("b", 1000, 0.02), ("c", 2000, 0.48))}
    batches = Blocks(pools, 4, 1, seed=3)
    rows = [int(batches[step][0, 0]) for step in range(400)]
    assert len(rows) == 400
    for first in (0, 1000, 2000):
        own = [row for row in rows if row // 1000 == first // 1000]
        assert len(own) >= 8
        assert sorted(own[:8]) == [first + 4 * block for block in range(8)]


def test_few_tokens_are_repeated() -> None:
    batch = Blocks({"a": (pool_of(3), 1.0)}, 5, 2, 0)[0]
    assert batch.tolist() == [[0, 1, 2, 0, 1, 2]] * 2
    assert batch.dtype.is_floating_point is False
    np.testing.assert_array_equal(batch.shape, (2, 6))


def test_an_empty_part_is_named() -> None:
    with pytest.raises(InputError, match="train on finetune: there are no documents"):
        Blocks({"source": (pool_of(30), 0.9), "finetune": (pool_of(0), 0.1)}, 4, 2, 0)
