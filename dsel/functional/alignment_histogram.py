"""How examples' alignments with clean data spread, in bins that are the same for all steps and models."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

EDGES = np.linspace(-3, 3, 25)
"""Of the bins of alignments over their root mean square; the outer bins take what lies beyond."""
RIGHT, NOISE = "aligned", "aligned_noise"


def count_alignments(alignment: npt.NDArray[np.floating[Any]], noisy: npt.NDArray[np.bool_] | None) -> dict[str, list[int]]:
    """How many examples (example,) lie in each bin, planted noise apart where it is known."""
    scale = float(np.sqrt(np.mean(np.square(alignment)))) or 1.0
    values = (alignment / scale).clip(EDGES[0], EDGES[-1])
    parts = {RIGHT: values} if noisy is None else {RIGHT: values[~noisy], NOISE: values[noisy]}
    return {name: np.histogram(part, EDGES)[0].tolist() for name, part in parts.items()}
