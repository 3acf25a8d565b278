"""The loop under `evidence`. Compiled by numba; it holds no lock."""

from __future__ import annotations

import numba as nb
import numpy as np

TOGETHER = 16  # pivots, each between 1 and 1e13, are multiplied before a logarithm is taken


@nb.njit(nogil=True, cache=True, error_model="numpy")
def sweep(diagonal, before, products, ratios):  # type: ignore[no-untyped-def]
    """ln det(T / t + I) and z^T (T + t I)^-1 z, both (column, point), of a tridiagonal T and products z (dim, column), at ratios t
    (column, point): T + t I = L D L^T row by row, all points of a column at once."""
    dim, (num_columns, num_points) = len(diagonal), ratios.shape
    logs, fitted = np.zeros((num_columns, num_points)), np.zeros((num_columns, num_points))
    inverse, solved, determinant = np.empty(num_points), np.empty(num_points), np.empty(num_points)
    for column in range(num_columns):
        shift, log, sum_ = ratios[column], logs[column], fitted[column]
        shrink = 1 / shift
        inverse[:], solved[:], determinant[:] = 0, 0, 1
        for row in range(dim):
            for point in range(num_points):
                share = before[row] * inverse[point]
                solved[point] = products[row, column] - share * solved[point]
                pivot = diagonal[row] + shift[point] - share * before[row]
                inverse[point] = 1 / pivot
                sum_[point] += solved[point] * solved[point] * inverse[point]
                determinant[point] *= pivot * shrink[point]
            if row % TOGETHER == TOGETHER - 1 or row == dim - 1:
                for point in range(num_points):
                    log[point] += np.log(determinant[point])
                determinant[:] = 1
    return logs, fitted
