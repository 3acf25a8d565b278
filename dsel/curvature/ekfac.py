"""The inverse by Kronecker factors of linear layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dsel.error import InputError
from dsel.protocol import Keep

if TYPE_CHECKING:
    from dsel.functional.curvature import TrainingLoss
    from dsel.functional.inverse_curvature import InverseCurvature

FILE, LABELS = "factors.safetensors", ("sampled", "empirical", "exact")


@dataclass(frozen=True)
class Ekfac:
    """EK-FAC (arXiv 1806.03884; for influence 2308.03296): the Gauss-Newton curvature of each linear layer in the eigenbasis of a Kronecker
    product, with the right eigenvalues; `is_corrected=false` is K-FAC (1503.05671), with those of the product.

    Embeddings, norms and weights tied to an embedding have no part in it, nor in scores by it. `labels`: gradients of labels that the model
    draws ("sampled"), of the data's own ("empirical"), of all ("exact", for small models). `damping` null: a tenth of a layer's mean
    eigenvalue. The factors are an artifact that all queries of a model share.
    """

    damping: float | None = None
    labels: str = "sampled"
    is_corrected: bool = True

    linear_only = True  # of other weights' curvature it knows nothing

    def __post_init__(self) -> None:
        if self.labels not in LABELS:
            raise InputError(f"curvature.labels={self.labels!r}: must be one of {', '.join(LABELS)}")

    def fit(self, loss: TrainingLoss, names: list[str], more: Mapping[str, float], seed: int, keep: Keep) -> InverseCurvature:
        """Two passes over the data of the loss, or the file that they left."""
        from dsel.functional.kronecker import Kronecker, fit_factors, load_factors, save_factors
        from dsel.functional.tracked import only_trained, tracked_layers

        with only_trained(loss.model, names):
            layers = tracked_layers(loss.model)[0]

        def build(folder: Path) -> None:
            save_factors(fit_factors(loss, layers, self.labels, seed, self.is_corrected), folder / FILE)

        folder = keep("factors", (self.labels, self.is_corrected, seed, names), build)
        return Kronecker(load_factors(layers, folder / FILE), partial(self._damping, more=more))

    def _damping(self, name: str, mean: float, more: Mapping[str, float]) -> float:
        return (0.1 * mean if self.damping is None else self.damping) + more.get(name, 0.0)
