"""What a choice left, seen from the pieces: which of their documents were chosen, and texts of some."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dsel.context import World
from dsel.error import InputError
from dsel.phase.choose import CHOSEN, RECORD, find_scores
from dsel.phase.scored import score_values
from dsel.pool import read_table
from dsel.protocol import Selector, Stream, StreamSelector
from dsel.state import State

MOST_OPEN = 256  # files that stay open rather than being opened for each look


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
    """What a finished `Choose` chose: iterate over the parts of the pieces as often as you like."""

    def __init__(self, state: State, world: World, selector: Selector) -> None:
        assert isinstance(selector, StreamSelector), "Choose has refused others"
        self.scored = find_scores(state, world)
        self.table = read_table(state.artifacts["select"] / CHOSEN)  # best first
        self.record = json.loads((state.artifacts["select"] / RECORD).read_text(encoding="utf-8"))
        self.first = self.scored.first_rows
        self._selector = selector
        piece = self.table["piece"].to_numpy()
        self._open: list[tuple[int, pa.Table]] = []
        self._order = np.argsort(piece, kind="stable")
        self._starts = np.searchsorted(piece[self._order], np.arange(len(self.scored.pieces) + 1))

    def __iter__(self) -> Iterator[Part]:
        if len(self.scored.pieces) <= MOST_OPEN:
            self._open = self._open or list(self.scored.tables())
        for number, table in self._open or self.scored.tables():
            here = self._order[self._starts[number] : self._starts[number + 1]]
            chosen = np.zeros(table.num_rows, dtype=np.bool_)
            rows = self.table["row"].take(pa.array(here)).to_numpy() if len(here) else np.empty(0, np.int64)
            chosen[np.searchsorted(table["row"].to_numpy(), rows)] = True  # rows ascend in a piece
            yield Part(number, table, self._selector.reduced(score_values(table)), chosen)

    def keys(self, part: Part) -> npt.NDArray[np.float64]:
        """What the selector ordered the documents of a part by."""
        return self._selector.keys(score_values(part.table), part.names, self.record["seed"])

    def has(self, column: str) -> bool:
        """Whether all pieces have the column."""
        return all(column in table.column_names for _, table in self.scored.tables())

    def piece_of(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Numbers of the pieces that hold these rows of the source."""
        return np.searchsorted(self.first, places, side="right").astype(np.int64) - 1

    def describe(self, place: int) -> dict[str, Any]:
        """Score and domain of a scored document, by its row in the source."""
        number = int(self.piece_of(np.array([place]))[0])
        table = self.scored.table(number)
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
    for texts in stream.texts(stream.pieces[number], rows):
        chunks += pc.utf8_slice_codeunits(texts.cast(pa.large_string()), 0, characters).chunks
    return pa.concat_arrays(chunks) if chunks else pa.array([], pa.large_string())
