"""LogME of the target's rows under each tuned model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsel.context import TaskContext


@dataclass(frozen=True)
class Logme:
    """score = LogME(embeddings of the target's rows by the model tuned on the source, labels) (arXiv 2102.11005)."""

    needs = ("tuned",)

    def score(self, context: TaskContext) -> npt.NDArray[np.float64]:
        """Scores (source,), in nats a row."""
        from dsel.functional.logme import logme

        target = context.target
        return np.array([logme(context.tuned(name).embeddings, target.labels, regression=target.is_regression) for name in context.sources])
