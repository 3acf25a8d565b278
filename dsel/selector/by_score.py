"""Selection by score: the usual selector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsel.context import Context
from dsel.error import InputError
from dsel.functional.hashing import remix
from dsel.functional.ranking import gumbel, keyed_gumbel, middle_out, order_by, uniform
from dsel.pool import TOKENS, Budget, Pool
from dsel.selection import Selection

KEEPS = ("top", "bottom", "middle", "sample")
REDUCES = ("mean", "max", "min")


@dataclass(frozen=True)
class ByScore:
    """Reduces scores (unit, target) over targets and keeps the `top`, `bottom` or `middle` of the order, or a `sample`.

    `sample` draws without replacement in proportion to exp(score / temperature), by Gumbel noise and top k (arXiv 1903.06059);
    the noise of a unit depends on its id (in a stream, its text) and the seed. Ties are broken by id (text), so the order of the
    pool does not matter.
    """

    reduce: str = "mean"
    keep: str = "top"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.keep not in KEEPS:
            raise InputError(f"selector.keep={self.keep!r}: must be one of {', '.join(KEEPS)}")
        if self.reduce not in REDUCES:
            raise InputError(f"selector.reduce={self.reduce!r}: must be one of {', '.join(REDUCES)}")
        if self.temperature <= 0:
            raise InputError(f"selector.temperature={self.temperature}: must be above 0")

    @property
    def from_middle(self) -> bool:
        """Whether the middle of the order is kept."""
        return self.keep == "middle"

    def reduced(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """One number per unit (unit,) of scores (unit, target)."""
        one: npt.NDArray[np.float32] = getattr(np, self.reduce)(values, axis=1)
        return one

    def keys(self, values: npt.NDArray[np.float32], names: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.float64]:
        """What units of a stream are ordered by (unit,), largest first; `names` are hashes of their texts."""
        value = self.reduced(values).astype(np.float64)
        if self.keep == "sample":
            return value / self.temperature + gumbel(uniform(remix(names, seed)))
        return -value if self.keep == "bottom" else value

    def select(self, source: Pool, target: Pool, budget: Budget, context: Context) -> Selection:
        """The units within the budget, best first. Errors: no scores, or scores of another pool."""
        if context.scores is None:
            raise InputError("selector by_score: there are no scores; put a score phase before select in pipeline")
        scores = context.scores.check(source)
        ids = source.ids()
        value = self.reduced(scores.values)
        key = (-value if self.keep == "bottom" else value).astype(np.float64)
        if self.keep == "sample":
            key = key / self.temperature + keyed_gumbel(ids, int(context.rng.integers(2**31)))
        order = order_by(key, ids)
        if self.keep == "middle":
            order = middle_out(order)
        lengths = source.token_counts() if TOKENS in source.table.column_names else None
        if budget.tokens is not None and lengths is None:
            raise InputError("budget.tokens: the pool has no token counts without a model; give budget.units or budget.fraction")
        units = order[: budget.cut(order, len(source), lengths)]
        provenance = {**scores.provenance, "selector": repr(self), "budget": repr(budget)}
        return Selection(units, source.fingerprint, value[units], provenance)
