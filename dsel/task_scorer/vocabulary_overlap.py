"""Vocabulary overlap: the share of tokens that both tasks have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsel.context import TaskContext


@dataclass(frozen=True)
class VocabularyOverlap:
    """score = Jaccard index of the sets of tokens of the source's texts and of the target's."""

    needs = ("tokens",)

    def score(self, context: TaskContext) -> npt.NDArray[np.float64]:
        """Scores (source,), from 0 to 1."""
        from dsel.functional.transferability import vocabulary_overlap

        own = context.tokens(None)
        return np.array([vocabulary_overlap(context.tokens(name), own) for name in context.sources])
