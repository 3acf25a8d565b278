"""Choose: from the scores of a stream's pieces to the best units within the budget, exactly, without all of them in memory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dsel.error import InputError
from dsel.functional.best import Best
from dsel.phase.scan import INDEX
from dsel.pool import ROW, TEXT, Budget, read_table, write_table
from dsel.protocol import Selector, Stream, World
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
        pieces, store = scanned(state, world)
        counts = count(pieces)
        distinct = count_distinct(lambda: (table["name"].to_numpy() for _, table in piece_scores(pieces, store)), counts["documents"])
        tokens = [int(table["length"].to_numpy().sum()) for _, table in piece_scores(pieces, store) if "length" in table.column_names]
        best = Best(self._limit(counts["documents"] if distinct is None else distinct, sum(tokens)))
        seed = world.phase_seed("method")
        for number, table in piece_scores(pieces, store):
            names, values = table["name"].to_numpy(), score_values(table)
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
        record |= {"documents": counts["documents"], "seed": seed}
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


@dataclass(frozen=True)
class Part:
    """The scored documents of a piece: their table, one score each (document,), and which are chosen."""

    number: int
    table: pa.Table
    scores: npt.NDArray[np.float32]
    chosen: npt.NDArray[np.bool_]

    @property
    def names(self) -> npt.NDArray[np.uint64]:
        """Of their texts."""
        names: npt.NDArray[np.uint64] = self.table["name"].to_numpy()
        return names


class Chosen:
    """What a finished `Choose` chose, seen from the pieces: iterate over their parts as often as you like."""

    def __init__(self, state: State, world: World, selector: Selector) -> None:
        self.pieces, self.store = scanned(state, world)
        self.table = read_table(state.artifacts["select"] / CHOSEN)  # best first
        self.record = json.loads((state.artifacts["select"] / RECORD).read_text(encoding="utf-8"))
        self.first = count(self.pieces)["first"]
        self._selector: Any = selector
        piece = self.table["piece"].to_numpy()
        self._order = np.argsort(piece, kind="stable")
        self._starts = np.searchsorted(piece[self._order], np.arange(len(self.pieces) + 1))

    def __iter__(self) -> Iterator[Part]:
        for number, table in piece_scores(self.pieces, self.store):
            here = self._order[self._starts[number] : self._starts[number + 1]]
            chosen = np.zeros(table.num_rows, dtype=np.bool_)
            rows = self.table["row"].take(pa.array(here)).to_numpy() if len(here) else np.empty(0, np.int64)
            chosen[np.searchsorted(table["row"].to_numpy(), rows)] = True  # rows ascend in a piece
            yield Part(number, table, self._selector.reduced(score_values(table)), chosen)

    def keys(self, part: Part) -> npt.NDArray[np.float64]:
        """What the selector ordered the documents of a part by."""
        keys: npt.NDArray[np.float64] = self._selector.keys(score_values(part.table), part.names, self.record["seed"])
        return keys

    def has(self, column: str) -> bool:
        """Whether all pieces have the column."""
        return all(column in table.column_names for _, table in piece_scores(self.pieces, self.store))

    def piece_of(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Numbers of the pieces that hold these rows of the source."""
        return np.searchsorted(self.first, places, side="right").astype(np.int64) - 1

    def describe(self, place: int) -> dict[str, Any]:
        """Score, domain and file of a scored document, by its row in the source."""
        number = int(self.piece_of(np.array([place]))[0])
        table = read_table(self.store / self.pieces[number]["artifact"] / "scores.arrow")
        row = table.slice(int(np.searchsorted(table["row"].to_numpy(), place - self.first[number])), 1)
        domain = row["domain"][0].as_py() if "domain" in row.column_names else None
        return {"score": float(self._selector.reduced(score_values(row))[0]), "domain": domain}


def read_texts(chosen: Chosen, world: World, places: npt.NDArray[np.int64], characters: int) -> pa.Array:
    """The first `characters` of the texts at `places`, ascending rows of the source. Pieces that hold none are not read."""
    piece = chosen.piece_of(places)
    items = [(int(n), places[piece == n] - chosen.first[n]) for n in np.unique(piece)]
    work = partial(_read_texts, world.stream, characters)
    found = list(world.executor.map(work, items, [len(rows) for _, rows in items], world.name, "documents"))
    texts = pa.concat_arrays(found) if found else pa.array([], pa.large_string())
    if len(texts) != len(places):
        raise InputError(f"source: {len(places) - len(texts)} scored documents are gone; the files have changed, run again")
    return texts


def _read_texts(stream: Stream, characters: int, item: tuple[int, npt.NDArray[np.int64]]) -> pa.Array:
    number, rows = item
    chunks: list[pa.Array] = []
    for table in stream.read(stream.pieces[number], stream.sieve()):
        texts = table[TEXT].filter(pc.is_in(table[ROW], pa.array(rows))).cast(pa.large_string())
        chunks += pc.utf8_slice_codeunits(texts, 0, characters).chunks
    return pa.concat_arrays(chunks) if chunks else pa.array([], pa.large_string())


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


def scanned(state: State, world: World) -> tuple[list[dict[str, Any]], Path]:
    """What the scan knows of its pieces, and the folder of their artifacts. Errors: there was no scan."""
    scan = state.artifacts.get("score")
    if scan is None or not (scan / INDEX).is_file():
        raise InputError(f"phases.{world.name}: there are no scores of pieces; put a scan phase named score before it in pipeline")
    return json.loads((scan / INDEX).read_text(encoding="utf-8")), scan.parent


def piece_scores(pieces: list[dict[str, Any]], store: Path) -> Iterator[tuple[int, pa.Table]]:
    """Number and scores of each piece that has documents, memory-mapped."""
    for number, piece in enumerate(pieces):
        if piece["documents"]:
            yield number, read_table(store / piece["artifact"] / "scores.arrow")


def score_values(table: pa.Table) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The scores (unit, target) of a piece."""
    names = [name for name in table.column_names if name.startswith("score_")]
    return np.stack([table[name].to_numpy() for name in names], axis=1)
