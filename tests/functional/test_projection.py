"""Random projections against their matrix, and against what chance allows."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, kstest

from dsel.error import InputError
from dsel.functional import projection as module
from dsel.functional.projection import BLOCK, KINDS, Projection

CASES = [("sparse", 1), ("sparse", 3), ("rademacher", 1), ("gaussian", 1)]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another P, which is made sooner."""
    module._block.cache_clear()
    monkeypatch.setattr(module, "BLOCK", 1 << 14)
    yield
    module._block.cache_clear()


def matrix(projection: Projection, offset: int, n: int) -> torch.Tensor:
    """P's rows from `offset` on, by basis vectors."""
    found = torch.zeros(n, projection.dim, dtype=torch.float64)
    projection.add(found, torch.eye(n, dtype=torch.float64), offset)
    return found


def project(projection: Projection, values: torch.Tensor, offset: int = 0) -> torch.Tensor:
    found = values.new_zeros(len(values), projection.dim)
    projection.add(found, values, offset)
    return found


@pytest.mark.parametrize(("kind", "num_nonzeros"), CASES)
def test_adds_the_product_with_one_matrix(kind: str, num_nonzeros: int) -> None:
    projection = Projection(kind, 16, 5, num_nonzeros)
    values = torch.randn(3, 500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = matrix(projection, 10**6, 500)
    torch.testing.assert_close(project(projection, values, 10**6), values @ p)
    out = torch.ones(3, 16)
    projection.add(out, values.float(), 10**6)
    torch.testing.assert_close(out, (1 + values @ p).float(), rtol=1e-4, atol=1e-4)
    assert not torch.equal(p, matrix(Projection(kind, 16, 6, num_nonzeros), 10**6, 500))
    torch.testing.assert_close(matrix(projection, 10**6 + 100, 50), p[100:150])


@pytest.mark.parametrize(("kind", "num_nonzeros"), CASES)
@given(cuts=st.lists(st.integers(0, 2 * BLOCK // 128), max_size=4), seed=st.integers(-5, 2**40))
@settings(max_examples=5)
def test_blocks_may_be_cut_anywhere(kind: str, num_nonzeros: int, cuts: list[int], seed: int) -> None:
    projection = Projection(kind, 128, seed, num_nonzeros)
    n = 2 * BLOCK // 128  # across blocks of the dense kinds
    values = torch.randn(2, n, generator=torch.Generator().manual_seed(0))
    parts = torch.zeros(2, 128)
    ends = [0, *sorted(cuts), n]
    for start, stop in pairwise(ends):
        projection.add(parts, values[:, start:stop], 7 + start)
    torch.testing.assert_close(parts, project(projection, values, 7), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("kind", "num_nonzeros"), CASES)
def test_entries_are_of_their_distribution(kind: str, num_nonzeros: int) -> None:
    p = matrix(Projection(kind, 8, 0, num_nonzeros), 3, 4000)
    if kind == "gaussian":
        assert kstest((p * 8**0.5).flatten().numpy(), "norm").pvalue > 1e-3
        return
    share = num_nonzeros / 8 if kind == "sparse" else 1.0
    sizes = p.abs().unique()
    assert len(sizes) == (2 if share < 1 else 1)
    torch.testing.assert_close(float(sizes[-1]), (share * 8) ** -0.5)
    assert ((p != 0).sum(1) == round(8 * share)).all()
    by_entry = torch.stack([(p > 0).sum(0), (p < 0).sum(0)]).double()  # by dimension, plus and minus
    widths = torch.tensor([(i + 1) * 8 // 3 - i * 8 // 3 for i in range(3)]).repeat_interleave(torch.tensor([2, 3, 3]))
    expected = 4000 / 2 / widths.double() if num_nonzeros == 3 else torch.full((8,), 4000 * share / 2, dtype=torch.float64)
    statistic = float(((by_entry - expected).square() / expected).sum())
    assert chi2.sf(statistic, 15) > 1e-3
    follows = (p[1:] * p[:-1]).sum(1)  # neighbours have nothing to do with each other
    assert abs(float(follows.mean())) < 4 * float(follows.std()) / 4000**0.5


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(("kind", "num_nonzeros"), CASES)
def test_lengths_and_products_are_kept_on_average(kind: str, num_nonzeros: int) -> None:
    generator = torch.Generator().manual_seed(1)
    own = torch.randn(2, 300, generator=generator, dtype=torch.float64)
    own[1] += 0.5 * own[0]
    exact = own @ own.T
    found = []
    for seed in range(200):
        features = project(Projection(kind, 32, seed, num_nonzeros), own)
        found.append(features @ features.T)
    products = torch.stack(found)
    error = products.mean(0) - exact
    assert (error.abs() < 4 * products.std(0) / 200**0.5).all()
    bound = (2 * exact.diagonal()[:, None] * exact.diagonal() / 32).sqrt()  # of the deviation of one product
    assert (products.std(0) < 1.3 * bound).all()


@pytest.mark.parametrize(("kind", "num_nonzeros"), CASES)
def test_lift_is_the_transpose(kind: str, num_nonzeros: int) -> None:
    projection, generator = Projection(kind, 100, 3, num_nonzeros), torch.Generator().manual_seed(0)
    n, offset = 2 * BLOCK // 100, 12345
    values = torch.randn(2, n, generator=generator, dtype=torch.float64)
    weights = torch.randn(3, 100, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(values @ projection.lift(weights, offset, n).T, project(projection, values, offset) @ weights.T)
    assert projection.lift(weights.float(), offset, 7).dtype == torch.float32


@pytest.mark.parametrize("num_nonzeros", [1, 3])
def test_rows_of_a_matrix(num_nonzeros: int) -> None:
    projection, generator = Projection("sparse", 16, 3, num_nonzeros), torch.Generator().manual_seed(0)
    rows, values = torch.randint(50, (3, 6), generator=generator), torch.randn(3, 6, 4, generator=generator)
    dense = torch.zeros(3, 50, 4)
    for example in range(3):
        dense[example].index_add_(0, rows[example], values[example])
    found = torch.zeros(3, 16)
    projection.add_rows(found, rows, values, 99)
    torch.testing.assert_close(found, project(projection, dense.flatten(1), 99))


@pytest.mark.parametrize("num_nonzeros", [1, 3])
@pytest.mark.parametrize("dim", [7, 256, 40_000])
def test_hash_by_torch_is_the_kernels(dim: int, num_nonzeros: int) -> None:
    projection = Projection("sparse", dim, 2**63 + 11, num_nonzeros)
    for first in (0, 2**33 + 5):
        theirs = projection._buckets(first, 1000, torch.empty(0))
        assert torch.equal(torch.stack(projection._hash(torch.arange(first, first + 1000))), torch.stack(list(theirs)))
    values = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    sums = torch.zeros(2, 2 * dim)
    for buckets in projection._hash(torch.arange(1000)):
        sums.index_add_(1, buckets, values)
    found = torch.zeros(2, dim)
    projection._fold(sums, found)
    torch.testing.assert_close(found, project(projection, values))


def test_threads_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    projection = Projection("sparse", 64, 0)
    values = torch.randn(7, 30_000, generator=torch.Generator().manual_seed(0))
    alone = project(projection, values)
    monkeypatch.setattr(module, "SPREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(module, "num_cores", lambda: 3)
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: project(projection, values), range(8)):
            assert torch.equal(found, alone)


@pytest.mark.parametrize("kind", KINDS)
def test_the_matrix_is_never_there(kind: str) -> None:
    """300,000 x 256 would be 307 MB; torch's memory is not numpy's, so its largest tensor is looked at too."""
    projection = Projection(kind, 256, 0)
    values = torch.ones(1, 300_000)
    project(projection, values[:, :10])  # compiled
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            found = func(*args, **(kwargs or {}))
            largest = max(largest, found.untyped_storage().nbytes()) if isinstance(found, torch.Tensor) else largest
            return found

    tracemalloc.start()
    with Watch():
        project(projection, values)
        projection.lift(torch.ones(1, 256), 10**6, 30_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24e6
    assert 300_000 * 4 <= largest < 24e6


def test_a_value_in_many_dimensions() -> None:
    """Where a parameter's nonzeros are all that there are."""
    p = matrix(Projection("sparse", 4, 1, 4), 0, 200)
    np.testing.assert_allclose(p.abs(), 0.5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("dense", 4, 0), "projection kind='dense': must be one of sparse, rademacher, gaussian"),
        (("sparse", 0, 0), "projection dim=0: must be from 1 to"),
        (("sparse", 4, 0, 5), "projection num_nonzeros=5: must be from 1 to dim=4"),
    ],
)
def test_what_cannot_be(given: tuple[str, int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Projection(*given)
