import numpy as np
import pytest
from scipy.stats import entropy

from dsel.functional.divergence import kl_divergence


def test_equals_scipy() -> None:
    rng = np.random.default_rng(0)
    target, other = rng.poisson(3, 200), rng.poisson(5, 200)
    target[:50] = 0
    other[40:60] = 0
    assert kl_divergence(target, other) == pytest.approx(entropy(target, other + 1), rel=1e-12)


def test_of_the_same_it_vanishes_with_the_sample() -> None:
    counts = np.random.default_rng(0).integers(1, 9, 100)
    assert 0 <= kl_divergence(counts * 10_000, counts * 10_000) < 1e-6
    assert kl_divergence(np.zeros(4, int), np.zeros(4, int)) == 0
