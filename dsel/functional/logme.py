"""LogME (arXiv 2102.11005): how well linear models of embeddings explain labels, as the evidence of Bayesian linear regression.

A column of labels is y = F w + noise, with w ~ N(0, I / alpha) and noise ~ N(0, I / beta), so y ~ N(0, I / beta + F F^T / alpha); its
evidence is that density where alpha and beta make it largest. Of F it needs the squared singular values and the projections of y alone.
The term -(dim - rank) / 2 ln(alpha), which the released code lacks, is in it. All is float64 inside.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dsel.error import InputError

Floats = npt.NDArray[np.float64]
Embeddings: TypeAlias = "npt.NDArray[np.float32] | npt.NDArray[np.float64]"
Labels: TypeAlias = "npt.NDArray[np.int64] | npt.NDArray[np.float32] | npt.NDArray[np.float64]"
LinearMap: TypeAlias = "tuple[Embeddings, Embeddings | None]"
# Where alpha / beta is sought, as shares of the largest squared singular value: below is rounding, above are weights of zero.
LEAST, MOST = 1e-13, 1e10
GRID = np.logspace(np.log10(LEAST), np.log10(MOST), 93)
EXACT = 1e-12  # of a label's square, that fewer dimensions than rows are taken to leave where they fit it exactly: less is rounding
STEPS = 100
TOLERANCE = 1e-13  # of a step in ln(alpha / beta)


@dataclass(frozen=True)
class Evidence:
    """Log evidence per row (column,) and the precisions of weights `alpha` and of noise `beta` (column,) at which it is largest."""

    per_row: Floats
    alpha: Floats
    beta: Floats


@dataclass(frozen=True)
class Projections:
    """What the evidence of labels (row, column) needs to know of embeddings.

    `sigma` (rank,): squared singular values; `squares` (rank, column): squared projections of the labels on the left singular vectors;
    `rest` (column,): what is left of their squared norms; `num_rows`.
    """

    sigma: Floats
    squares: Floats
    rest: Floats
    num_rows: int

    def maximise(self) -> Evidence:
        """The largest evidence over alpha and beta.

        For a ratio t = alpha / beta the best beta is known, so this is a search in t: over `GRID`, then by Newton steps between two of
        its points. What it finds is a fixed point of alpha = gamma / |m|^2, beta = (num_rows - gamma) / |y - F m|^2 for the mean m of w
        and gamma = sum of sigma / (t + sigma). Where the evidence still grows at an end of the range, it is that of the end.
        """
        if not len(self.sigma):
            return self._at(np.ones_like(self.rest))
        grid = GRID * self.sigma.max()
        logs = -0.5 * np.log1p(self.sigma[:, None] / grid).sum(0)
        kept = (grid / (grid + self.sigma[:, None])).T @ self.squares + self.rest
        best = np.argmax(logs[:, None] - self.num_rows / 2 * np.log(kept), 0)
        ratio = np.log(grid)
        right = self._slopes(grid[best])[0] > 0
        low, high = ratio[np.where(right, best, (best - 1).clip(0))], ratio[np.where(right, (best + 1).clip(0, len(grid) - 1), best)]
        return self._at(np.exp(self._refine(low, high)))

    def _refine(self, low: Floats, high: Floats) -> Floats:
        """ln(alpha / beta) (column,) with a slope of 0, between `low` and `high`."""
        now = (low + high) / 2
        for _ in range(STEPS):
            slope, curvature = self._slopes(np.exp(now))
            low, high = np.where(slope > 0, now, low), np.where(slope > 0, high, now)
            newton = now - slope / np.where(curvature < 0, curvature, -np.inf)
            inside = (curvature < 0) & (newton >= low) & (newton <= high)
            step = np.where(inside, newton, (low + high) / 2) - now
            now = now + step
            if (np.abs(step) <= TOLERANCE * np.maximum(1, np.abs(now))).all():
                break
        return now

    def _slopes(self, ratio: Floats) -> tuple[Floats, Floats]:
        """The first and the second derivative (column,) of twice the evidence by ln(alpha / beta), at ratios (column,)."""
        sigma = self.sigma[:, None]
        share = sigma / (ratio + sigma)
        change = self.squares * share * (1 - share)
        squares = (self.squares * (1 - share)).sum(0) + self.rest
        first = change.sum(0) / squares
        second = (change * (2 * share - 1)).sum(0) / squares
        return share.sum(0) - self.num_rows * first, -(share * (1 - share)).sum(0) - self.num_rows * (second - first**2)

    def _at(self, ratio: Floats) -> Evidence:
        sigma = self.sigma[:, None]
        squares = (self.squares * (ratio / (ratio + sigma))).sum(0) + self.rest
        beta = self.num_rows / squares
        per_row = 0.5 * (np.log(beta / (2 * np.pi)) - 1 - np.log1p(sigma / ratio).sum(0) / self.num_rows)
        return Evidence(per_row, beta * ratio, beta)


def project(embeddings: Floats, columns: Floats, num_rows: int | None = None, rest: Floats | float = 0.0) -> Projections:
    """From embeddings (row, dim) and labels (row, column), by the spectrum of the smaller of F F^T and F^T F.

    `num_rows` and `rest` (column,) are of rows that are no longer there, see `logme_of_maps`.
    """
    tall = len(embeddings) >= embeddings.shape[1]
    sigma, axes = np.linalg.eigh(embeddings.T @ embeddings if tall else embeddings @ embeddings.T)
    real = sigma > max(embeddings.shape) * np.finfo(np.float64).eps * max(sigma.max(initial=0), np.finfo(np.float64).tiny)
    sigma, axes = sigma[real], axes[:, real]
    squares = (axes.T @ (embeddings.T @ columns)) ** 2 / sigma[:, None] if tall else (axes.T @ columns) ** 2
    norms, num_rows = (columns**2).sum(0), num_rows or len(embeddings)
    lost = norms - squares.sum(0) + rest
    return Projections(sigma, squares, np.maximum(lost, EXACT * (norms + rest) if len(sigma) < num_rows else 0), num_rows)


def logme(embeddings: Embeddings, labels: Labels, *, regression: bool) -> float:
    """The mean over label columns of the log evidence per row, of embeddings (row, dim) and labels (row,).

    Classes are whole numbers from 0, each a column of zeros and ones; a regression's target is the one column, as it is. Errors:
    values that are not finite, shapes that do not fit, one class only, a class per row, a constant target.
    """
    columns = to_columns(labels, len(_checked(embeddings)), regression=regression)
    return float(project(np.asarray(embeddings, np.float64), columns).maximise().per_row.mean())


def logme_of_maps(base: Embeddings, maps: Iterable[LinearMap], labels: Labels, *, regression: bool) -> Floats:
    """`logme` (map,) of the embeddings (row, dim) under each linear map, a weight (out, dim) and a bias (out,) or None.

    Rows beyond dim + 1 cost once: an orthogonal transformation of the rows changes no evidence, and leaves zeros below. Errors: as
    `logme`, a map that does not fit the embeddings or is not finite.
    """
    columns = to_columns(labels, len(_checked(base)), regression=regression)
    num_rows, dim = base.shape
    rows, rest = np.hstack([np.asarray(base, np.float64), np.ones((num_rows, 1))]), np.zeros(columns.shape[1])
    if num_rows > dim + 1 + columns.shape[1]:
        upper = np.asarray(np.linalg.qr(np.hstack([rows, columns]), mode="r"))
        rows, columns, rest = upper[: dim + 1, : dim + 1], upper[: dim + 1, dim + 1 :], (upper[dim + 1 :, dim + 1 :] ** 2).sum(0)
    scores = []
    for number, (weight, bias) in enumerate(maps):
        _check_map(number, weight, bias, dim)
        mapped = rows[:, :dim] @ np.asarray(weight, np.float64).T
        if bias is not None:
            mapped += rows[:, dim:] * np.asarray(bias, np.float64)
        scores.append(project(mapped, columns, num_rows, rest).maximise().per_row.mean())
    return np.array(scores)


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


def _checked(embeddings: Embeddings) -> Embeddings:
    if np.ndim(embeddings) != 2 or not np.size(embeddings):
        raise InputError(f"embeddings: shape {np.shape(embeddings)}; expected (row, dim), one or more of both")
    bad = np.flatnonzero(~np.isfinite(embeddings).all(1))
    if len(bad):
        raise InputError(f"row {bad[0]}: its embedding is not finite ({len(bad)} rows in all); leave it out")
    return embeddings


def _check_map(number: int, weight: Embeddings, bias: Embeddings | None, dim: int) -> None:
    if np.ndim(weight) != 2 or np.shape(weight)[1] != dim:
        raise InputError(f"map {number}: its weight is {np.shape(weight)}, the embeddings have {dim} dimensions; expected (out, {dim})")
    if bias is not None and np.shape(bias) != (len(weight),):
        raise InputError(f"map {number}: its bias is {np.shape(bias)}, its weight {np.shape(weight)}; expected ({len(weight)},)")
    if not np.isfinite(weight).all() or (bias is not None and not np.isfinite(bias).all()):
        raise InputError(f"map {number}: its weight or bias is not finite; fit it again")
