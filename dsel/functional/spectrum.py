"""Vectors that all point the same way tell little apart: centre them, and flatten the directions in which they vary most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


def unit(vectors: Vectors) -> Vectors:
    """The rows (row, dim) at norm 1; a row of zeros stays one."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    scaled: Vectors = vectors * (1 / np.where(norms > 0, norms, 1)).astype(np.float32)[:, None]
    return scaled


@dataclass(frozen=True)
class Spectrum:
    """The mean (dim,) of unit vectors, the axes (dim, axis) along which they vary more than they may, and the share (axis,) of
    each to take away."""

    mean: Vectors
    axes: Vectors
    excess: Vectors

    @staticmethod
    def of(vectors: Vectors, max_variance: float) -> Spectrum:
        """Of a sample (row, dim): after `flatten`, no axis has more than `max_variance` times the mean variance before it.

        Whitening (arXiv 2103.15316) of the few strong axes alone: to scale the many weak ones up would scale their noise up.
        """
        centred = unit(vectors)
        mean = centred.mean(0, dtype=np.float64).astype(np.float32)
        centred -= mean
        variances, axes = np.linalg.eigh((centred.T @ centred / max(len(centred), 1)).astype(np.float64))
        most = max_variance * variances.sum() / len(variances)
        strong = variances > max(most, 1e-12)
        excess = 1 - np.sqrt(most / variances[strong])
        return Spectrum(mean, axes[:, strong].astype(np.float32), excess.astype(np.float32))

    def flatten(self, vectors: Vectors) -> Vectors:
        """Unit vectors (row, dim) of the same rows; a row of zeros stays one."""
        centred = unit(vectors)
        empty = ~centred.any(1)
        centred -= self.mean
        centred -= (centred @ self.axes * self.excess) @ self.axes.T
        centred[empty] = 0
        return unit(centred)
