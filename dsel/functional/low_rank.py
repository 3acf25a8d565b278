"""Many matrices at low rank: by few rows and columns that all of them share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from dsel.functional.curvature import Vectors
from dsel.functional.ghost_factors import Factors

MIXTURES = 64  # of vectors, from which the rows and columns that they share are taken


@dataclass(frozen=True)
class LowRank:
    """Matrices (vector, out, in) of linear layers as `outputs` (out, rows) times `core` (vector, rows, columns) times `inputs` (in,
    columns)^T, the first and the last the same for all vectors. Where the layer has a bias, `constant` (columns,) is the row of the input
    that is always 1."""

    outputs: torch.Tensor
    core: torch.Tensor
    inputs: torch.Tensor
    constant: torch.Tensor | None
    bias: str | None
    is_transposed: bool

    def whole(self, number: int, weight: str) -> dict[str, torch.Tensor]:
        """One of the vectors, as the model holds weight and bias."""
        found = self.outputs @ self.core[number] @ self.inputs.T
        parts = {weight: found.T if self.is_transposed else found}
        if self.bias is not None and self.constant is not None:
            parts[self.bias] = self.outputs @ self.core[number] @ self.constant
        return parts

    def products(self, part: Factors) -> torch.Tensor:
        """With the gradients of examples (example, vector), those by the bias included."""
        given, at_output = (part.rows, part.columns) if self.is_transposed else (part.columns, part.rows)
        inputs = given @ self.inputs if self.constant is None else given @ self.inputs + self.constant
        return ((at_output @ self.outputs).mT @ inputs).flatten(1) @ self.core.flatten(1).T


def mixtures(vectors: Mapping[str, torch.Tensor]) -> Vectors:
    """Of many vectors (vector, *shape) some sums with signs by chance, whose covariances are about theirs."""
    count = len(next(iter(vectors.values())))
    if count <= MIXTURES:
        return dict(vectors)
    luck = torch.rand(MIXTURES, count, generator=torch.Generator().manual_seed(0))
    signs = (luck < 0.5).float() * 2 - 1
    return {name: (signs.to(value) @ value.flatten(1)).view(-1, *value.shape[1:]) for name, value in vectors.items()}


def shared(matrices: Sequence[torch.Tensor], rank: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Of each layer's matrices (vector, out, in) the directions of rows (out, some) and of columns (in, some) in which most of them lies (a
    truncated higher-order SVD). Layers and sides share a threshold: `rank` is the number of directions a side has on average."""
    sides = [_spectrum(each.movedim(axis, 0).flatten(1)) for each in matrices for axis in (1, 2)]
    energies = torch.cat([values for values, _ in sides]).sort(descending=True).values
    least = energies[min(2 * rank * len(matrices), len(energies)) - 1]
    kept = [vectors[:, : max(1, int((values >= least).sum()))] for values, vectors in sides]
    return list(zip(kept[::2], kept[1::2], strict=True))


def _spectrum(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Squared singular values, the greatest first, and left singular vectors (row, value)."""
    values, vectors = torch.linalg.eigh((rows @ rows.T).double())
    return values.flip(0), vectors.flip(1).to(rows.dtype)
