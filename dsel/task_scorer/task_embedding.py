"""TaskEmb: cosine of diagonal Fisher informations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsel.context import TaskContext


@dataclass(frozen=True)
class TaskEmbedding:
    """score = cosine between the base encoder's diagonal Fisher informations on source and target (arXiv 2005.00770), each under a head
    fitted to the frozen embeddings (arXiv 1902.03545). All rows of the target are looked at, whichever are asked for."""

    needs = ("fisher",)

    def score(self, context: TaskContext) -> npt.NDArray[np.float64]:
        """Scores (source,), from 0 to 1."""
        from dsel.functional.transferability import fisher_cosine

        own = context.fisher(None)
        return np.array([fisher_cosine(context.fisher(name), own) for name in context.sources])
