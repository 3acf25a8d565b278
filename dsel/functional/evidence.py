"""The evidence of Bayesian linear regression, where it is largest.

A column of labels is y = F w + noise, with w ~ N(0, I / alpha) and noise ~ N(0, I / beta), so y ~ N(0, I / beta + F F^T / alpha); its
evidence is that density where alpha and beta make it largest. Of F it needs the squared singular values and the projections of y alone,
or a tridiagonal form of F^T F, which costs a quarter of them. All is float64 inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsel.functional.evidence_kernels import sweep
from dsel.functional.lapack import gram, tridiagonalise

Floats = npt.NDArray[np.float64]
# Where alpha / beta is sought, as shares of the largest squared singular value: below is rounding, above are weights of zero.
LEAST, MOST = 1e-13, 1e10
GRID = np.logspace(np.log10(LEAST), np.log10(MOST), 93)
EXACT = 1e-12  # of a label's square, that fewer dimensions than rows are taken to leave where they fit it exactly: less is rounding
STEPS = 100
TOLERANCE = 1e-13  # of a step in ln(alpha / beta)
# Of `Tridiagonal`: points of a finer grid, how many such grids, and the least alpha / beta, as a share of the largest square.
POINTS, FINER, SAFE = 17, 5, 1e-7


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

    `num_rows` and `rest` (column,) are of rows that are no longer there, see `logme.logme_of_maps`.
    """
    tall = len(embeddings) >= embeddings.shape[1]
    sigma, axes = np.linalg.eigh(embeddings.T @ embeddings if tall else embeddings @ embeddings.T)
    real = sigma > max(embeddings.shape) * np.finfo(np.float64).eps * max(sigma.max(initial=0), np.finfo(np.float64).tiny)
    sigma, axes = sigma[real], axes[:, real]
    squares = (axes.T @ (embeddings.T @ columns)) ** 2 / sigma[:, None] if tall else (axes.T @ columns) ** 2
    norms, num_rows = (columns**2).sum(0), num_rows or len(embeddings)
    lost = norms - squares.sum(0) + rest
    return Projections(sigma, squares, np.maximum(lost, EXACT * (norms + rest) if len(sigma) < num_rows else 0), num_rows)


@dataclass(frozen=True)
class Tridiagonal:
    """What the evidence of labels needs to know of embeddings F (row, dim), where the best alpha / beta is not too small for it.

    T = Q^T F^T F Q by its `diagonal` (dim,) and what is `before` that in each row (dim,); `products` (dim, column): Q^T F^T y; `norms`
    (column,): the labels' squares; `num_rows`.
    """

    diagonal: Floats
    before: Floats
    products: Floats
    norms: Floats
    num_rows: int

    @staticmethod
    def of(embeddings: Floats, columns: Floats, num_rows: int, rest: Floats | float = 0.0) -> Tridiagonal:
        """Of embeddings (row, dim), column by column in memory, and labels (row, column); `rest` as in `project`."""
        products = np.asfortranarray(embeddings.T @ columns)
        return Tridiagonal(*tridiagonalise(gram(embeddings), products), products, (columns**2).sum(0) + rest, num_rows)

    def maximise(self) -> Floats | None:
        """The largest log evidence per row (column,), as `Projections` finds it, but by finer and finer grids of t = alpha / beta.

        With a pivot each of the factors of T + t, by which det(F F^T / t + I) and y^T (F F^T / t + I)^-1 y are sums over `dim`. None
        where a t is below `SAFE`, so that rounding of small singular values, or of what a close fit leaves, may count.
        """
        beside = np.abs(self.before)
        largest = (self.diagonal + beside + np.append(beside[1:], 0)).max()  # a bound, by Gershgorin
        if not largest > 0:
            return None
        ends = np.log(largest * np.array([LEAST, MOST]))
        ratio, step = np.tile(np.log(largest * GRID), (len(self.norms), 1)), np.diff(ends) / (len(GRID) - 1)
        for _ in range(FINER):
            around = self._best(ratio)[1][:, None]
            ratio, step = np.clip(around + step * np.linspace(-1, 1, POINTS), *ends), step * 2 / (POINTS - 1)
        per_row, best = self._best(ratio)
        return per_row if (best >= np.log(SAFE * largest)).all() else None

    def _best(self, ratio: Floats) -> tuple[Floats, Floats]:
        """The largest evidence per row (column,) of those at ln(alpha / beta) (column, point), and where it is (column,)."""
        logs, fitted = sweep(self.diagonal, self.before, self.products, np.exp(ratio))
        squares = np.maximum(self.norms[:, None] - fitted, EXACT * self.norms[:, None])
        per_row = 0.5 * (np.log(self.num_rows / (2 * np.pi * squares)) - 1 - logs / self.num_rows)
        best = np.where(np.isfinite(per_row), per_row, -np.inf).argmax(1)[:, None]
        return np.take_along_axis(per_row, best, 1)[:, 0], np.take_along_axis(ratio, best, 1)[:, 0]
