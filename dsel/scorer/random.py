"""The baseline that belongs in every table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.context import Context
from dsel.functional.ranking import keyed_uniform
from dsel.pool import ID, Pool
from dsel.protocol import FittedScore


@dataclass(frozen=True)
class RandomScore:
    """The fitted score: a uniform number of the id and the seed."""

    seed: int

    def __call__(self, batch: pa.Table) -> npt.NDArray[np.float32]:
        """Scores (unit, 1)."""
        return keyed_uniform(batch[ID].to_numpy(zero_copy_only=False), self.seed).astype(np.float32)[:, None]


@dataclass(frozen=True)
class Random:
    """Uniform scores. A unit's score depends on its id and the seed, not on where it stands."""

    reads = (ID,)

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        """Draws the seed of the scores; looks at nothing."""
        return RandomScore(int(context.rng.integers(2**31)))
