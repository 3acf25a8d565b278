"""Choose: from the scores of a stream's pieces to the best units within the budget, exactly, without all of them in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.context import World
from dsel.error import InputError
from dsel.functional.best import Best
from dsel.functional.order import Order
from dsel.phase.scan import INDEX
from dsel.phase.scored import Scored, columns_of, count_distinct
from dsel.pool import Budget, read_table, write_table
from dsel.protocol import Selector, StreamSelector
from dsel.state import State

CHOSEN, RECORD = "chosen.arrow", "counts.json"
IN_MEMORY = (  # what makes experiment=select one that reads all into memory
    "data=files", "phase@phases.score=score", "phase@phases.select=select", "phase@phases.export=export",
    "pipeline=[pretrain,score,select,export]",
)  # fmt: skip
Columns = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Choose:
    """Chooses documents of the stream. Of exact repeats the one that ranks first is a candidate. Of equal keys the text's hash
    decides, where a pool in memory is ordered by ids: without ties both choose the same in the same order."""

    selector: Selector
    budget: Budget

    needs_checkpoint = False
    trains = False

    def __post_init__(self) -> None:
        if not isinstance(self.selector, StreamSelector):
            raise InputError(
                f"selector {type(self.selector).__name__}: cannot choose from a stream; take selector=by_score, or read all into memory: "
                f"{' '.join(IN_MEMORY)}"
            )

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write chosen.arrow (piece, row, place, name, score, rank), best first, and what was counted. Errors: a budget over what
        there is."""
        assert isinstance(self.selector, StreamSelector)
        scored, seed = find_scores(state, world), world.phase_seed("method")
        if not scored.documents:
            why = ", ".join(f"{count} {reason}" for reason, count in scored.dropped().items())
            raise InputError(f"source: no documents left (dropped: {why}); give source= other data, or lower data.min_characters")
        choose = _from_middle if self.selector.from_middle else _from_top
        chosen, distinct = choose(scored, self.selector, self.budget, seed)
        columns = {name: chosen[name] for name in ("piece", "row", "place", "name", "length") if name in chosen}
        columns |= {"score": self.selector.reduced(chosen["values"]), "rank": np.arange(len(chosen["row"]))}
        write_table(pa.table(columns), folder / CHOSEN)
        repeats = scored.documents - distinct
        dropped = scored.dropped() | ({"duplicate": repeats} if repeats else {})
        record = {"read": int(scored.first_rows[-1]), "dropped": dropped, "listed": scored.listed()}
        record |= {"documents": scored.documents, "seed": seed}
        (folder / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
        return {"selected_documents": len(chosen["row"])}

    def read(self, state: State, world: World, folder: Path) -> State:
        """The state with the counts; the next phase reads what was chosen."""
        return state.with_metrics(selected_documents=float(read_table(folder / CHOSEN).num_rows))


def find_scores(state: State, world: World) -> Scored:
    """What the scan left. Errors: there was none."""
    scan = state.artifacts.get("score")
    if scan is None or not (scan / INDEX).is_file():
        raise InputError(f"phases.{world.name}: there are no scores of pieces; put a scan phase named score before it in pipeline")
    return Scored(scan)


def _from_top(scored: Scored, selector: StreamSelector, budget: Budget, seed: int) -> tuple[Columns, int]:
    """Columns of the units with the largest keys, and the number of different texts."""
    distinct = count_distinct(lambda: (table["name"].to_numpy() for _, table in scored.tables()), scored.documents)
    best = Best(_tokens(scored, budget) or _count(budget, distinct))
    for number, table in scored.tables():
        columns = columns_of(table, number, scored.first_rows)
        keys = selector.keys(columns["values"], columns["name"], seed)
        best.add(keys, columns.pop("name"), columns.pop("place"), columns["length"] if budget.tokens else None, **columns)
    chosen = best.result()
    if budget.tokens and len(chosen["row"]) == distinct:
        _refuse_above(budget.tokens, int(chosen["length"].sum()))
    return chosen, distinct


def _from_middle(scored: Scored, selector: StreamSelector, budget: Budget, seed: int) -> tuple[Columns, int]:
    """Columns of the units around the middle of the order, and the number of different texts."""

    def parts() -> Iterator[tuple[npt.NDArray[np.float64], npt.NDArray[np.uint64]]]:
        for number, table in scored.tables():
            columns = columns_of(table, number, scored.first_rows)
            yield selector.keys(columns["values"], columns["name"], seed), columns["name"]

    tokens = _tokens(scored, budget)
    order = Order(parts)
    if not tokens:
        return scored.take(order.middle(_count(budget, len(order)))), len(order)
    total = sum(int(table["length"].to_numpy()[order.mask(part)].sum()) for part, (_, table) in enumerate(scored.tables()))
    _refuse_above(tokens, total)
    count = min(1 + tokens * len(order) // total, len(order))
    while True:  # until there are more than fit
        chosen = scored.take(order.middle(count))
        fits = int(np.searchsorted(np.cumsum(chosen["length"]), tokens, side="right"))
        if fits < count or count == len(order):
            return {name: column[: max(fits, 1)] for name, column in chosen.items()}, len(order)
        count = min(2 * count, len(order))


def _count(budget: Budget, num_documents: int) -> int:
    count = budget.count(num_documents)
    assert count is not None
    return count


def _tokens(scored: Scored, budget: Budget) -> int | None:
    """The budget in tokens, if it is one. Errors: there are no token counts; fewer in all, repeats included."""
    if budget.tokens is None:
        return None
    lengths = [int(table["length"].to_numpy().sum()) for _, table in scored.tables() if "length" in table.column_names]
    if not lengths:
        raise InputError("budget.tokens: the pool has no token counts without a model; give budget.units or budget.fraction")
    _refuse_above(budget.tokens, sum(lengths))
    return budget.tokens


def _refuse_above(tokens: int, total: int) -> None:
    if tokens > total:
        raise InputError(f"budget.tokens={tokens} is over the pool's size of {total} tokens; set it lower")
