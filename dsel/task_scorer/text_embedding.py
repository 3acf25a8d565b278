"""TextEmb: cosine of mean embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsel.context import TaskContext


@dataclass(frozen=True)
class TextEmbedding:
    """score = cosine between the mean base embeddings of the source's texts and of the target's (arXiv 2005.00770)."""

    needs = ("embedding",)

    def score(self, context: TaskContext) -> npt.NDArray[np.float64]:
        """Scores (source,), from -1 to 1."""
        from dsel.functional.transferability import mean_cosine

        own = context.base()
        return np.array([mean_cosine(context.base_of(name), own) for name in context.sources])
