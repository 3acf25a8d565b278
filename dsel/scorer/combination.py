"""Several scorers in one: the weighted mean of a document's ranks."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.context import Context
from dsel.error import InputError
from dsel.functional.ranking import SampleRank
from dsel.pool import Pool
from dsel.protocol import FittedScore, Scorer


@dataclass(frozen=True)
class Part:
    """A fitted scorer, what it weighs, and the ranks that turn its scores into shares."""

    fitted: FittedScore
    weight: float
    rank: SampleRank


@dataclass(frozen=True)
class MeanRank:
    """The fitted score: minus the weighted mean, over the parts, of the share of the source that ranks above."""

    parts: tuple[Part, ...]

    def __call__(self, batch: pa.Table) -> npt.NDArray[np.float32]:
        """Scores (unit, 1), between -1 and 0."""
        total = sum(part.weight for part in self.parts)
        shares = sum((part.weight / total * part.rank.share_above(one_each(part.fitted(batch))) for part in self.parts), np.zeros(1))
        return -shares.astype(np.float32)[:, None]


@dataclass(frozen=True)
class Combination:
    """score = -sum_i w_i a_i / sum_i w_i, with a_i the share of the source that scorer i puts above the document: 0 is best of all.

    That is the weighted mean of quantiles, less 1, which keeps the digits of float32 for the best. Shares are of a sample of `sample`
    documents of the source, so nothing has to be known of the rest; scores beyond the sample's keep their order. Fitting costs
    each part's pass over the sample. Each part is fitted as it would be alone.

    `scorers` is a group of scorers by name, `weights` what they weigh: 1 where it does not say, and one that weighs 0 is neither
    fitted nor needs its model. On the command line, to add `dsir` with half a weight and to leave `cds` out:

        dsel experiment=select scorer=combination +scorer@scorer.scorers.dsir=dsir +scorer.weights.dsir=0.5 scorer.weights.cds=0

    Options of a part are `scorer.scorers.dsir.max_ngram=1`. The same scorer may stand there twice, under different names.
    """

    scorers: Mapping[str, Scorer]
    weights: Mapping[str, float] = field(default_factory=dict)
    sample: int = 2_000

    def __post_init__(self) -> None:
        for name, scorer in self.scorers.items():
            if not hasattr(scorer, "fit"):
                raise InputError(f"scorer.scorers.{name}={scorer!r}: is no scorer; add one by +scorer@scorer.scorers.{name}={scorer}")
        for name, weight in self.weights.items():
            if name not in self.scorers:
                there_are = f"there are {', '.join(self.scorers) or 'none'}; add it by +scorer@scorer.scorers.{name}={name}"
                raise InputError(f"scorer.weights.{name}={weight}: there is no scorer.scorers.{name}; {there_are}")
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
                raise InputError(f"scorer.weights.{name}={weight!r}: must be a number of at least 0")
        if not self._used():
            raise InputError("scorer.weights: no scorer is left; give one of scorer.scorers a weight above 0")
        if self.sample < 1:
            raise InputError(f"scorer.sample={self.sample}: must be at least 1")

    @property
    def reads(self) -> tuple[str, ...]:
        """What any of the parts reads."""
        return tuple(dict.fromkeys(column for scorer in self._used().values() for column in scorer.reads))

    @property
    def num_passes(self) -> float:
        """Forward passes over the pool: those of the parts together."""
        return float(sum(getattr(scorer, "num_passes", 0.0) for scorer in self._used().values()))

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        """Fit each part and rank a sample of the source by it. Errors: a part finds no finite score for one of the sample."""
        rng = context.rng.spawn(1)[0]  # the parts draw from the other
        rows = np.sort(rng.choice(len(source), min(self.sample, len(source)), replace=False))
        sample, parts = source.take(rows).table, []
        for name, scorer in self._used().items():
            fitted = scorer.fit(source, target, replace(context, rng=copy.deepcopy(context.rng)))
            scores = one_each(fitted(sample.select(list(scorer.reads))))
            bad = np.flatnonzero(~np.isfinite(scores))
            if len(bad):
                where = f"id {source.ids()[rows[bad[0]]]!r}, score {scores[bad[0]]}"
                raise InputError(f"scorer.scorers.{name}: {len(bad)} scores are not finite; first: {where}; change the scorer's options")
            parts.append(Part(fitted, float(self.weights.get(name, 1.0)), SampleRank.of(scores)))
        return MeanRank(tuple(parts))

    def _used(self) -> dict[str, Scorer]:
        return {name: scorer for name, scorer in self.scorers.items() if self.weights.get(name, 1.0)}


def one_each(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """One number per unit (unit,) of scores (unit, target): their mean over targets."""
    mean: npt.NDArray[np.float32] = scores.mean(axis=1)
    return mean
