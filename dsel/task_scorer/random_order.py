"""Random: any order is as good as another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsel.context import TaskContext


@dataclass(frozen=True)
class RandomOrder:
    """score = 0: all sources tie, and measures are means over all orders."""

    needs = ()

    def score(self, context: TaskContext) -> npt.NDArray[np.float64]:
        """Scores (source,)."""
        return np.zeros(len(context.sources))
