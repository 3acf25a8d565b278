"""Choose: from the scores of a stream's pieces to the best units within the budget, exactly, without all of them in memory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.error import InputError
from dsel.functional.best import Best
from dsel.phase.scan import INDEX
from dsel.pool import Budget, read_table, write_table
from dsel.protocol import Selector, World
from dsel.state import State

CHOSEN, RECORD = "chosen.arrow", "counts.json"
MOST_COUNTED = 1 << 25  # names that are in memory at once to count the different ones
MOST_PASSES = 8


@dataclass(frozen=True)
class Choose:
    """Chooses documents of the stream. Of exact repeats the one that ranks first is a candidate."""

    selector: Selector
    budget: Budget

    needs_checkpoint = False
    trains = False

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write chosen.arrow (piece, row, score, rank), best first, and what was counted. Errors: a budget over what there is."""
        scan = state.artifacts.get("score")
        if scan is None or not (scan / INDEX).is_file():
            raise InputError(f"phases.{world.name}: there are no scores of pieces; put a scan phase named score before it in pipeline")
        pieces = json.loads((scan / INDEX).read_text(encoding="utf-8"))
        counts = count(pieces)
        distinct = count_distinct(lambda: (table["name"].to_numpy() for _, table in _scores(pieces, scan.parent)), counts["documents"])
        tokens = [int(table["length"].to_numpy().sum()) for _, table in _scores(pieces, scan.parent) if "length" in table.column_names]
        best = Best(self._limit(counts["documents"] if distinct is None else distinct, sum(tokens)))
        seed = world.phase_seed("method")
        for number, table in _scores(pieces, scan.parent):
            names, values = table["name"].to_numpy(), _values(table)
            costs = table["length"].to_numpy() if self.budget.tokens is not None else None
            keys = self.selector.keys(values, names, seed)  # type: ignore[attr-defined]
            place = counts["first"][number] + table["row"].to_numpy()
            where = np.full(len(names), number, np.int32)
            others = {"length": table["length"].to_numpy()} if "length" in table.column_names else {}
            others |= {"piece": where, "row": table["row"].to_numpy(), "score": self.selector.reduced(values)}  # type: ignore[attr-defined]
            best.add(keys, names, place, costs, **others)
        chosen = best.result()
        columns = {name: chosen[name] for name in ("piece", "row", "place", "name", "score", "length") if name in chosen}
        write_table(pa.table(columns | {"rank": np.arange(len(chosen["row"]))}), folder / CHOSEN)
        dropped = counts["dropped"] | ({"duplicate": counts["documents"] - distinct} if distinct not in (None, counts["documents"]) else {})
        record = {"read": counts["read"], "dropped": dropped, "listed": [line for p in pieces for line in p["listed"]][:100]}
        (folder / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
        return {"selected_documents": len(chosen["row"])}

    def read(self, state: State, world: World, folder: Path) -> State:
        """The state with the counts; the next phase reads what was chosen."""
        return state.with_metrics(selected_documents=float(read_table(folder / CHOSEN).num_rows))

    def _limit(self, num_documents: int, num_tokens: int) -> int:
        if self.budget.tokens is not None:
            if not num_tokens:
                raise InputError("budget.tokens: the pool has no token counts without a model; give budget.units or budget.fraction")
            if self.budget.tokens > num_tokens:
                raise InputError(f"budget.tokens={self.budget.tokens} is over the pool's size of {num_tokens} tokens; set it lower")
            return self.budget.tokens
        count = self.budget.count(num_documents)
        assert count is not None
        return count


def count(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """Documents in all, rows read and dropped, and the number in the source of each piece's first row."""
    dropped: Counter[str] = Counter()
    for piece in pieces:
        dropped.update(piece["dropped"])
    first = np.cumsum([0, *(piece["read"] for piece in pieces)])
    return {"documents": sum(p["documents"] for p in pieces), "read": int(first[-1]), "dropped": dict(dropped), "first": first}


def count_distinct(parts: Callable[[], Iterator[npt.NDArray[np.uint64]]], num_names: int) -> int | None:
    """How many different names there are, in memory for `MOST_COUNTED`; None where that would take too many passes."""
    passes = 1 << max(0, (num_names - 1) // MOST_COUNTED).bit_length()
    if passes > MOST_PASSES:
        return None
    shift = np.uint64(64 - (passes.bit_length() - 1))
    found = 0
    for number in range(passes):
        some = [part[(part >> shift) == number] if passes > 1 else part for part in parts()]
        found += len(np.unique(np.concatenate(some))) if some else 0
    return found


def _scores(pieces: list[dict[str, Any]], store: Path) -> Iterator[tuple[int, pa.Table]]:
    for number, piece in enumerate(pieces):
        if piece["documents"]:
            yield number, read_table(store / piece["artifact"] / "scores.arrow")


def _values(table: pa.Table) -> np.ndarray[Any, np.dtype[np.float32]]:
    names = [name for name in table.column_names if name.startswith("score_")]
    return np.stack([table[name].to_numpy() for name in names], axis=1)
