"""Source size: the more rows, the better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsel.context import TaskContext


@dataclass(frozen=True)
class SourceSize:
    """score = the source's number of rows."""

    needs = ()

    def score(self, context: TaskContext) -> npt.NDArray[np.float64]:
        """Scores (source,)."""
        return np.array([float(len(context.rows(name))) for name in context.sources])
