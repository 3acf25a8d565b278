"""No curvature: what is left of influence is the inner product of gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dsel.protocol import Keep

if TYPE_CHECKING:
    import torch

    from dsel.functional.curvature import TrainingLoss, Vectors
    from dsel.functional.inverse_curvature import InverseCurvature, Report


@dataclass
class Unchanged:
    """The inverse of the identity."""

    reports: list[Report] = field(default_factory=list)

    def solve(self, vectors: Mapping[str, torch.Tensor]) -> Vectors:
        """The vectors themselves."""
        return dict(vectors)


@dataclass(frozen=True)
class Identity:
    """The curvature counts as 1 in every direction."""

    linear_only = False

    def fit(self, loss: TrainingLoss, names: list[str], more: Mapping[str, float], seed: int, keep: Keep) -> InverseCurvature:
        """Nothing is looked at."""
        return Unchanged()
