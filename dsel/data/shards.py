"""Files too large for memory: a sample of them to fit on, and a stream of pieces to map over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.artifact import fingerprint
from dsel.corpus import Documents
from dsel.data.files import Files, unify
from dsel.data.format.file import find_files, hash_file
from dsel.data.format.piece import Piece, cut, read_piece
from dsel.data.text import Columns, empty_rows
from dsel.error import InputError
from dsel.functional.cores import num_cores
from dsel.functional.hashing import hash_texts, remix
from dsel.pool import DOMAIN, ID, ROW, TEXT
from dsel.sieve import OnBadRow, Sieve

MOST_SAMPLED = 32  # pieces that are read for the sample
MOST_LUCK = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class FileStream:
    """The source's files as pieces. Equal files under equal names with equal times are taken to be the same."""

    pieces: Sequence[Piece]
    columns: Columns
    min_characters: int
    max_characters: int | None
    on_bad_row: OnBadRow

    def sieve(self) -> Sieve:
        """A new one, for the bad rows of a piece."""
        return Sieve("source", self.on_bad_row)

    @property
    def fingerprint(self) -> str:
        """Of the pieces and of how they are read."""
        return fingerprint([piece.key for piece in self.pieces], vars(self.columns), self.min_characters, self.max_characters)

    def read(self, piece: Piece, sieve: Sieve) -> Iterator[pa.Table]:
        """The documents of a piece. Errors: see `read_piece`; a bad row, unless the sieve skips them."""
        for block in read_piece(piece, self.columns, self.columns.names):
            rows = block.rows
            sieve.num_read += rows.num_read
            sieve.drop(rows.bad)
            if rows.table.num_rows == 0:
                continue
            table = self.columns.expose(rows.table, piece.path)
            empty = empty_rows(table)
            sieve.drop(block.bad(rows.numbers[empty], "empty", f"{self.columns.text!r} is empty"))
            kept = np.ones(table.num_rows, dtype=bool)
            kept[empty] = False
            table = table.append_column(ROW, pa.array(rows.numbers)).filter(pa.array(kept))
            table = self.columns.cut(sieve.drop_short(table, self.min_characters), self.max_characters)
            yield table.select([name for name in (TEXT, ID, DOMAIN, ROW) if name in table.column_names])

    def names(self, piece: Piece) -> list[str]:
        """The columns of its first rows."""
        return next((block.rows.table.column_names for block in read_piece(piece, self.columns)), [])

    def rows(self, piece: Piece) -> Iterator[tuple[npt.NDArray[np.int64], pa.Table]]:
        """The readable rows as they are in the file, without what `dsel` wrote into it before, and their numbers in the piece."""
        for block in read_piece(piece, self.columns):
            table = block.rows.table
            yield block.rows.numbers, table.select([name for name in table.column_names if not name.startswith("dsel_")])


@dataclass(frozen=True)
class Shards:
    """Reads what `Files` reads, and no more of the source than fits into memory at a time.

    What is fitted is fitted on a random part of `sample` documents, from at most 32 pieces; scores are for all. The
    target is read whole. A file is known by its name, size and time, not by its content.
    """

    source: str | Sequence[str]
    target: str | Sequence[str]
    text_column: str = TEXT
    domain_column: str = DOMAIN
    id_column: str = ID
    on_bad_row: OnBadRow = "fail"
    min_characters: int = 1
    max_characters: int | None = None
    sample: int = 100_000
    seed: int = 0

    def __post_init__(self) -> None:
        _ = self._files  # checks the options that both have
        if self.sample < 1:
            raise InputError(f"data.sample={self.sample}: must be at least 1")

    @cached_property
    def stream(self) -> FileStream:
        """The source. Errors: as `find_files`; a Parquet file that is broken."""
        pieces = [piece for path in find_files(self.source, "source") for piece in cut(path)]
        return FileStream(pieces, self._columns, self.min_characters, self.max_characters, self.on_bad_row)

    def identity(self) -> dict[str, Any]:
        """Names, sizes and times of the source's files, content of the target's, and the options."""
        options = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("source", "target")}
        target = [[str(path), hash_file(path)] for path in find_files(self.target, "target")]
        return {**options, "source": self.stream.fingerprint, "target": target}

    def read(self) -> Documents:
        """The target, and a sample of the source. Errors: as `Files.read`."""
        sieves = {side: Sieve(side, self.on_bad_row) for side in ("source", "target")}
        target, _ = self._files.read_side(find_files(self.target, "target"), sieves["target"])
        return Documents(
            source=self._sample(sieves["source"]),
            target=target,
            dropped={"target": dict(sieves["target"].dropped)},
            listed=sieves["target"].listed,
            facts={"pieces": len(self.stream.pieces), "bytes": sum(piece.num_bytes for piece in self.stream.pieces)},
        )

    @property
    def _columns(self) -> Columns:
        return Columns(self.text_column, self.id_column, self.domain_column)

    @property
    def _files(self) -> Files:
        return Files(
            self.source, self.target, self.text_column, self.domain_column, self.id_column,
            self.on_bad_row, self.min_characters, self.max_characters,
        )  # fmt: skip

    def _sample(self, sieve: Sieve) -> pa.Table:
        """`sample` documents of at most 32 pieces, drawn by their texts; a few pieces are in memory at a time."""
        luck = remix(hash_texts(pa.array([piece.key for piece in self.stream.pieces])), self.seed)
        chosen = [self.stream.pieces[n] for n in np.sort(np.argsort(luck, kind="stable")[:MOST_SAMPLED]).tolist()]
        kept, below, names = [pa.table({TEXT: pa.array([], pa.string())})], MOST_LUCK, dict[str, None]()
        at_once = num_cores()
        with ThreadPoolExecutor(at_once) as threads:
            for start in range(0, len(chosen), at_once):
                for table, found, dropped in threads.map(partial(self._lucky, below), chosen[start : start + at_once]):
                    kept.append(table)
                    names |= dict.fromkeys(found)
                    sieve.dropped.update(dropped)
                if sum(table.num_rows for table in kept) > self.sample:
                    table = unify(kept, ["source"] * len(kept))
                    luck = self._luck(table)
                    rows = np.argsort(luck, kind="stable")[: self.sample]
                    kept, below = [table.take(pa.array(np.sort(rows)))], luck[rows[-1]]
        self._columns.require(list(names), f"source={self.source}")
        return sieve.finish(unify(kept, ["source"] * len(kept)), str(self.source))

    def _lucky(self, below: np.uint64, piece: Piece) -> tuple[pa.Table, list[str], dict[str, int]]:
        """The piece's documents that are not beyond `below`, its columns, and what was dropped."""
        sieve, kept = self.stream.sieve(), [pa.table({TEXT: pa.array([], pa.string())})]
        for table in self.stream.read(piece, sieve):
            kept.append(table.filter(pa.array(self._luck(table) <= below)))
        return unify(kept, [piece.path] * len(kept)), self.stream.names(piece), dict(sieve.dropped)

    def _luck(self, table: pa.Table) -> npt.NDArray[np.uint64]:
        return remix(hash_texts(table[TEXT]), self.seed)
