"""LogME (arXiv 2102.11005): how well linear models of embeddings explain labels, as the evidence of Bayesian linear regression.

The term -(dim - rank) / 2 ln(alpha), which the released code lacks, is in it. The model is in `evidence`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from dsel.error import InputError
from dsel.functional.cores import num_cores
from dsel.functional.evidence import Tridiagonal, project
from dsel.functional.finite import Embeddings, check_embeddings
from dsel.functional.lapack import multiply_upper

Floats = npt.NDArray[np.float64]
Labels: TypeAlias = "npt.NDArray[np.int64] | npt.NDArray[np.float32] | npt.NDArray[np.float64]"
LinearMap: TypeAlias = "tuple[Embeddings, Embeddings | None]"


def logme(embeddings: Embeddings, labels: Labels, *, regression: bool) -> float:
    """The mean over label columns of the log evidence per row, of embeddings (row, dim) and labels (row,).

    Classes are whole numbers from 0, each a column of zeros and ones; a regression's target is the one column, as it is. Errors:
    values that are not finite, shapes that do not fit, one class only, a class per row, a constant target.
    """
    columns = to_columns(labels, len(check_embeddings(embeddings)), regression=regression)
    return float(project(np.asarray(embeddings, np.float64), columns).maximise().per_row.mean())


def logme_of_maps(base: Embeddings, maps: Iterable[LinearMap], labels: Labels, *, regression: bool) -> Floats:
    """`logme` (map,) of the embeddings (row, dim) under each linear map, a weight (out, dim) and a bias (out,) or None.

    Rows beyond dim + 1 cost once: an orthogonal transformation of the rows changes no evidence, and leaves zeros below. Maps are taken
    as they are needed, and scored by a thread a core; until all are, BLAS has one thread in each. Errors: as `logme`, a map that does
    not fit the embeddings or is not finite.
    """
    columns, scores, waiting = to_columns(labels, len(check_embeddings(base)), regression=regression), [], deque[Future[float]]()
    num_workers = num_cores()
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(num_workers) as workers:
        target = _Target.of(base, columns)
        for number, (weight, bias) in enumerate(maps):
            waiting.append(workers.submit(target.score, number, weight, bias))
            if len(waiting) > 2 * num_workers:  # so that few maps are in memory
                scores.append(waiting.popleft().result())
        scores += [future.result() for future in waiting]
    return np.array(scores)


@dataclass(frozen=True)
class _Target:
    """Embeddings and a column of ones (row, dim + 1), labels (row, column), and the number and the labels' squares (column,) of all rows
    and of those that are no longer there. Where there are such, the embeddings are an upper triangle."""

    rows: Floats
    columns: Floats
    num_rows: int
    rest: Floats

    @staticmethod
    def of(base: Embeddings, columns: Floats) -> _Target:
        num_rows, dim = base.shape
        rows, rest = np.hstack([np.asarray(base, np.float64), np.ones((num_rows, 1))]), np.zeros(columns.shape[1])
        if num_rows > dim + 1 + columns.shape[1]:
            upper = np.asarray(np.linalg.qr(np.hstack([rows, columns]), mode="r"))
            rows, columns, rest = upper[: dim + 1, : dim + 1], upper[: dim + 1, dim + 1 :], (upper[dim + 1 :, dim + 1 :] ** 2).sum(0)
        return _Target(np.asfortranarray(rows), columns, num_rows, rest)

    def score(self, number: int, weight: Embeddings, bias: Embeddings | None) -> float:
        """`logme` under one map."""
        dim = self.rows.shape[1] - 1
        _check_map(number, weight, bias, dim)
        joined = np.empty((dim + 1, len(weight)), order="F")
        joined[:dim], joined[dim] = weight.T, 0 if bias is None else bias
        if len(self.rows) == self.num_rows:
            return float(project(self.rows @ joined, self.columns).maximise().per_row.mean())
        multiply_upper(self.rows, joined)
        found = Tridiagonal.of(joined, self.columns, self.num_rows, self.rest).maximise() if 0 < len(weight) <= dim else None
        if found is None:
            found = project(joined, self.columns, self.num_rows, self.rest).maximise().per_row
        return float(found.mean())


def to_columns(labels: Labels, num_rows: int, *, regression: bool) -> Floats:
    """Labels (row,) as (row, column): one for a regression, one of zeros and ones for each class that there is. Errors: see `logme`."""
    given: npt.NDArray[Any] = np.asarray(labels)
    if given.shape != (num_rows,):
        raise InputError(f"labels: {given.shape} for {num_rows} rows of embeddings; give one label per row")
    if regression:
        target = given.astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(target))
        if len(bad):
            raise InputError(f"row {bad[0]}: its label is {target[bad[0]]}; give a finite number or leave the row out")
        if target.min() == target.max():
            raise InputError(f"labels: all {num_rows} are {target[0]}; a regression needs a target that varies")
        return target[:, None]
    if not np.issubdtype(given.dtype, np.integer):
        raise InputError(f"labels: {given.dtype}; classes are whole numbers, and for a regression say regression=True")
    if given.min() < 0:
        row = int(np.argmax(given < 0))
        raise InputError(f"row {row}: its label is {given[row]}; classes count from 0, leave out rows without a label")
    classes = np.unique(given)
    if len(classes) == 1:
        raise InputError(f"labels: all {num_rows} rows are of class {classes[0]}; there must be two classes or more")
    if len(classes) == num_rows:
        raise InputError(f"labels: {len(classes)} classes for {num_rows} rows; classes must repeat, or say regression=True")
    columns: Floats = (given[:, None] == classes).astype(np.float64)
    return columns


def _check_map(number: int, weight: Embeddings, bias: Embeddings | None, dim: int) -> None:
    if np.ndim(weight) != 2 or np.shape(weight)[1] != dim:
        raise InputError(f"map {number}: its weight is {np.shape(weight)}, the embeddings have {dim} dimensions; expected (out, {dim})")
    if bias is not None and np.shape(bias) != (len(weight),):
        raise InputError(f"map {number}: its bias is {np.shape(bias)}, its weight {np.shape(weight)}; expected ({len(weight)},)")
    if not np.isfinite(weight).all() or (bias is not None and not np.isfinite(bias).all()):
        raise InputError(f"map {number}: its weight or bias is not finite; fit it again")
