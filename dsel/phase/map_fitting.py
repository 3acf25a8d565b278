"""How embedding space maps are fitted in a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dsel.error import InputError

if TYPE_CHECKING:
    from dsel.functional.space_map import SpaceMap

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class MapFitting:
    """How a map is fitted: by "ridge", with the penalty among `penalties` that has the least error on the share `held_out_share` of the
    rows, or by "sgd", as published; through `rank` dimensions, or all (null)."""

    method: str = "ridge"
    penalties: Sequence[float] = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
    held_out_share: float = 0.1
    rank: int | None = None

    def __post_init__(self) -> None:
        if self.method not in ("ridge", "sgd"):
            raise InputError(f"map.method={self.method!r}: must be ridge or sgd")

    def fit(self, base: Vectors, tuned: Vectors, seed: int) -> SpaceMap:
        """From embeddings (row, dim) to those of the tuned model."""
        from dsel.functional.space_map import fit_ridge, fit_sgd

        if self.method == "sgd":
            return fit_sgd(base, tuned, rank=self.rank, held_out_share=self.held_out_share, seed=seed)
        return fit_ridge(base, tuned, self.penalties, rank=self.rank, held_out_share=self.held_out_share, seed=seed)
