"""ESM-LogME: LogME of the target's rows under each source's embedding space map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsel.context import TaskContext


@dataclass(frozen=True)
class EsmLogme:
    """score = LogME(map of the source applied to the base embeddings of the target's rows, labels) (arXiv 2410.15148). The target is
    embedded once for all sources."""

    needs = ("map",)

    def score(self, context: TaskContext) -> npt.NDArray[np.float64]:
        """Scores (source,), in nats a row."""
        from dsel.functional.logme import logme_of_maps

        maps = (context.space_map(name) for name in context.sources)
        target = context.target
        return logme_of_maps(context.base(), ((each.weight, each.bias) for each in maps), target.labels, regression=target.is_regression)
