"""The inverse by conjugate gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsel.error import InputError
from dsel.protocol import Keep

if TYPE_CHECKING:
    from dsel.functional.curvature import TrainingLoss
    from dsel.functional.inverse_curvature import InverseCurvature


@dataclass(frozen=True)
class ConjugateGradient:
    """Products with the curvature of `kind` ("gauss_newton" or "hessian") plus `damping`, until the residual is `tolerance` of the right
    side. Where it is not after `max_iterations`, the run says how large it still is. Errors: a direction of negative curvature."""

    kind: str = "gauss_newton"
    damping: float = 1e-3
    max_iterations: int = 100
    tolerance: float = 1e-3

    linear_only = False

    def __post_init__(self) -> None:
        if self.max_iterations < 1:
            raise InputError(f"curvature.max_iterations={self.max_iterations}: must be at least 1")
        if self.tolerance <= 0:
            raise InputError(f"curvature.tolerance={self.tolerance}: must be above 0")

    def fit(self, loss: TrainingLoss, names: list[str], more: Mapping[str, float], seed: int, keep: Keep) -> InverseCurvature:
        """Nothing is computed before a vector is there."""
        from dsel.functional.inverse_curvature import ByConjugateGradient

        damping = {name: self.damping + more.get(name, 0.0) for name in names}
        return ByConjugateGradient(loss, damping, self.kind, self.max_iterations, self.tolerance)
