"""Many matrices at low rank: by few rows and columns that all of them share."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dsel.functional.ghost_factors import Factors


@dataclass(frozen=True)
class Bases:
    """Directions of a linear layer's outputs (out, rows) and inputs (in, columns). Where the layer has a bias, `constant` (columns,) is the
    row of the input that is always 1."""

    outputs: torch.Tensor
    inputs: torch.Tensor
    constant: torch.Tensor | None
    bias: str | None
    is_transposed: bool

    def project(self, part: Factors) -> torch.Tensor:
        """Gradients of examples, that by the bias included, along these directions (example, rows, columns)."""
        given, at_output = (part.rows, part.columns) if self.is_transposed else (part.columns, part.rows)
        inputs = given @ self.inputs if self.constant is None else given @ self.inputs + self.constant
        return (at_output @ self.outputs).mT @ inputs

    def whole(self, core: torch.Tensor, weight: str) -> dict[str, torch.Tensor]:
        """From one `core` (rows, columns) to the layer's weight and bias, as the model holds them."""
        found = self.outputs @ core @ self.inputs.T
        parts = {weight: found.T if self.is_transposed else found}
        if self.bias is not None and self.constant is not None:
            parts[self.bias] = self.outputs @ core @ self.constant
        return parts


@dataclass(frozen=True)
class LowRank:
    """Matrices of a linear layer as `core` (vector, rows, columns) along the same directions."""

    bases: Bases
    core: torch.Tensor

    def products(self, part: Factors) -> torch.Tensor:
        """With the gradients of examples (example, vector)."""
        return self.bases.project(part).flatten(1) @ self.core.flatten(1).T
