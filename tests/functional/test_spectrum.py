"""The spectrum against numpy's covariance."""

from __future__ import annotations

import numpy as np

from dsel.functional.spectrum import Spectrum, unit


def sample(seed: int = 0, count: int = 2000) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Vectors with a mean, two strong axes and ten weak ones."""
    rng = np.random.default_rng(seed)
    return (3 + rng.normal(size=(count, 12)) * np.array([9, 5, *[1] * 10])).astype(np.float32)


def test_unit_rows() -> None:
    rows = np.array([[3, 4], [0, 0], [1e-30, 0]], np.float32)
    np.testing.assert_allclose(unit(rows), [[0.6, 0.8], [0, 0], [1, 0]], atol=1e-6)


def test_no_direction_varies_more_than_it_may() -> None:
    vectors = unit(sample())
    before = np.linalg.eigvalsh(np.cov(vectors.T, bias=True))
    spectrum = Spectrum.of(sample(), 2.0)
    centred = vectors - vectors.mean(0)
    after = centred - (centred @ spectrum.axes * spectrum.excess) @ spectrum.axes.T
    variances = np.linalg.eigvalsh(np.cov(after.T, bias=True))
    np.testing.assert_allclose(variances, np.minimum(before, 2.0 * before.mean()), atol=1e-5)
    assert (before > 2.0 * before.mean()).sum() == spectrum.axes.shape[1] > 0
    np.testing.assert_allclose(spectrum.flatten(sample()), after / np.linalg.norm(after, axis=1, keepdims=True), atol=1e-4)


def test_where_nothing_is_strong_vectors_are_centred_only() -> None:
    vectors = unit(sample())
    spectrum = Spectrum.of(sample(), 100.0)
    assert spectrum.axes.shape == (12, 0)
    np.testing.assert_allclose(spectrum.flatten(sample()), unit(vectors - vectors.mean(0)), atol=1e-5)


def test_an_empty_row_stays_empty_and_the_input_as_it_was() -> None:
    vectors = sample(count=5)
    vectors[2] = 0
    kept = vectors.copy()
    flat = Spectrum.of(vectors, 1.0).flatten(vectors)
    np.testing.assert_array_equal(vectors, kept)
    assert not flat[2].any()
    np.testing.assert_allclose(np.linalg.norm(np.delete(flat, 2, 0), axis=1), 1, atol=1e-5)


def test_a_sample_of_one() -> None:
    assert np.isfinite(Spectrum.of(sample(count=1), 4.0).flatten(sample(count=3))).all()
