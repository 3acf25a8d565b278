"""The inverse by a Neumann series on batches."""

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
class Lissa:
    """LiSSA (arXiv 1602.03943, as used by 1703.04730): `num_steps` steps on a batch each, the mean of `num_repeats` runs. `scale` is to be
    above the largest eigenvalue of the curvature; null: found by power iteration. Errors: the series runs away."""

    kind: str = "gauss_newton"
    damping: float = 1e-2
    num_steps: int = 1000
    num_repeats: int = 1
    scale: float | None = None

    linear_only = False

    def __post_init__(self) -> None:
        for name in ("num_steps", "num_repeats"):
            if getattr(self, name) < 1:
                raise InputError(f"curvature.{name}={getattr(self, name)}: must be at least 1")

    def fit(self, loss: TrainingLoss, names: list[str], more: Mapping[str, float], seed: int, keep: Keep) -> InverseCurvature:
        """Nothing is computed before a vector is there; `seed` draws the batches."""
        from dsel.functional import inverse_curvature

        damping = {name: self.damping + more.get(name, 0.0) for name in names}
        return inverse_curvature.Lissa(loss, damping, seed, self.kind, self.num_steps, self.num_repeats, self.scale)
