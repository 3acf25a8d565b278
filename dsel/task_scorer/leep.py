"""LEEP: how well a source model's classes stand for the target's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsel.context import TaskContext


@dataclass(frozen=True)
class Leep:
    """score = mean log likelihood of the target's labels by way of the classes that the source's model sees in its rows (arXiv 2002.12462).
    A source that is a regression has no classes, and no score."""

    needs = ("tuned",)

    def score(self, context: TaskContext) -> npt.NDArray[np.float64]:
        """Scores (source,), at most 0; NaN for regressions, or for all where the target is one."""
        from scipy.special import softmax

        from dsel.functional.transferability import leep

        return context.score_classifiers(lambda outputs, labels: leep(softmax(outputs, axis=1), labels))
