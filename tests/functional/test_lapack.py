from __future__ import annotations

import numpy as np
import pytest

from dsel.functional.lapack import gram, multiply_upper, tridiagonalise


@pytest.mark.parametrize("size", [1, 2, 7, 150])
def test_it_is_a_similar_tridiagonal_matrix(size: int) -> None:
    rng = np.random.default_rng(0)
    rows = np.asfortranarray(rng.normal(size=(size + 3, size)))
    turned = np.asfortranarray(np.eye(size))
    diagonal, before = tridiagonalise(gram(rows), turned)
    beside = np.diag(before[1:], -1)
    assert before[0] == 0
    np.testing.assert_allclose(turned @ turned.T, np.eye(size), atol=1e-12)
    np.testing.assert_allclose(turned @ (rows.T @ rows) @ turned.T, np.diag(diagonal) + beside + beside.T, atol=1e-10)


def test_an_upper_triangle_times_a_matrix() -> None:
    rng = np.random.default_rng(0)
    triangle, matrix = np.asfortranarray(np.triu(rng.normal(size=(9, 9)))), np.asfortranarray(rng.normal(size=(9, 4)))
    expected = triangle @ matrix
    multiply_upper(triangle, matrix)
    np.testing.assert_allclose(matrix, expected, atol=1e-13)


def test_layouts_that_would_be_misread_are_refused() -> None:
    rows = np.ones((4, 3))
    for bad in (rows, np.asfortranarray(rows, np.float32)):
        with pytest.raises(AssertionError):
            gram(bad)  # type: ignore[arg-type]
