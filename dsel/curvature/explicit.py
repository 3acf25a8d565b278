"""The curvature as a matrix, for small models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsel.protocol import Keep

if TYPE_CHECKING:
    from dsel.functional.curvature import TrainingLoss
    from dsel.functional.inverse_curvature import InverseCurvature


@dataclass(frozen=True)
class Explicit:
    """The curvature of `kind` ("hessian", or "gauss_newton", which is never negative) plus `damping` on its diagonal, written out and
    inverted. Errors: more than 8,192 parameters; an eigenvalue that is not positive."""

    kind: str = "gauss_newton"
    damping: float = 1e-3

    linear_only = False

    def fit(self, loss: TrainingLoss, names: list[str], more: Mapping[str, float], seed: int, keep: Keep) -> InverseCurvature:
        """A product for every parameter."""
        from dsel.functional.inverse_curvature import Dense

        return Dense(loss, {name: self.damping + more.get(name, 0.0) for name in names}, self.kind)
