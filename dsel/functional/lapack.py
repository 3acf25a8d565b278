"""BLAS and LAPACK in place, called without the interpreter's lock, so that threads run side by side: scipy's own wrappers hold it.

They are the routines of `scipy.linalg.cython_blas` and `cython_lapack`. Matrices are of float64 and lie column by column (Fortran).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from types import ModuleType

import numpy as np
import numpy.typing as npt
from numba.extending import get_cython_function_address
from scipy.linalg import cython_blas, cython_lapack  # here, so that who limits the threads of libraries finds them

Floats = npt.NDArray[np.float64]
BLOCK = 64  # columns at a time: LAPACK asks for that much room to work in, and for as large a square


def multiply_upper(triangle: Floats, matrix: Floats) -> None:
    """Make of a matrix (row, column) its product with an upper triangle (row, row) from the left."""
    num_rows, num_columns = matrix.shape
    _call(cython_blas, "dtrmm", b"L", b"U", b"N", b"N", num_rows, num_columns, 1.0, triangle, num_rows, matrix, num_rows)


def gram(matrix: Floats) -> Floats:
    """The products (column, column) of a matrix (row, column)'s columns; what lies above the diagonal is not filled."""
    num_rows, num_columns = matrix.shape
    products = np.empty((num_columns, num_columns), order="F")
    _call(cython_blas, "dsyrk", b"L", b"T", num_columns, num_rows, 1.0, matrix, num_rows, 0.0, products, num_columns)
    return products


def tridiagonalise(symmetric: Floats, columns: Floats) -> tuple[Floats, Floats]:
    """The diagonal (row,) and what is before it in each row (row,), 0 in the first, of a tridiagonal Q^T S Q.

    Of S (row, row) the part below the diagonal is read, and lost; the columns (row, column) become Q^T columns.
    """
    size, num_columns = columns.shape
    diagonal, before, scales = np.empty(size), np.zeros(size), np.empty(size)
    work = np.empty(BLOCK * (size + num_columns + BLOCK + 1))
    _call(cython_lapack, "dsytrd", b"L", size, symmetric, size, diagonal, before[1:], scales, work, len(work), 0)
    _call(cython_lapack, "dormtr", b"L", b"L", b"T", size, num_columns, symmetric, size, scales, columns, size, work, len(work), 0)
    return diagonal, before


def _call(module: ModuleType, name: str, *arguments: bytes | float | Floats) -> None:
    """With the addresses of all arguments, as Fortran has them; integers are of C's size."""
    held = [np.array(argument, np.intc) if isinstance(argument, int) else np.asarray(argument) for argument in arguments]
    assert all(array.flags.f_contiguous and array.dtype == np.float64 for array in held if array.ndim)
    _routine(module.__name__, name, len(held))(*(array.ctypes.data for array in held))


@cache
def _routine(module: str, name: str, num_arguments: int) -> Callable[..., None]:
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * num_arguments)(get_cython_function_address(module, name))
