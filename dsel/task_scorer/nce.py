"""NCE: how much of the target's labels the source model's labels tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsel.context import TaskContext


@dataclass(frozen=True)
class Nce:
    """score = - H(target label | label that the source's model gives the row), in nats (arXiv 1908.08142). A source that is a regression
    has no labels, and no score."""

    needs = ("tuned",)

    def score(self, context: TaskContext) -> npt.NDArray[np.float64]:
        """Scores (source,), at most 0; NaN for regressions, or for all where the target is one."""
        from dsel.functional.transferability import nce

        return context.score_classifiers(lambda outputs, labels: nce(outputs.argmax(1), labels))
