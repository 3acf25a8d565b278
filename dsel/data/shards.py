"""Files too large for memory: a sample of them to fit on, and a stream of pieces to map over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.artifact import fingerprint
from dsel.corpus import Documents
from dsel.data.files import Files, unify
from dsel.data.format.file import find_files, hash_file
from dsel.data.format.piece import PIECE_BYTES, Block, Piece, cut, read_piece
from dsel.data.text import Columns, empty_rows
from dsel.error import InputError
from dsel.functional.cores import num_cores
from dsel.functional.hashing import hash_texts, remix
from dsel.pool import DOMAIN, ID, NAME, ROW, TEXT
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
    def reading(self) -> str:
        """Of all that decides what becomes of a good row."""
        return fingerprint(vars(self.columns), self.min_characters, self.max_characters)

    def read(self, piece: Piece, sieve: Sieve) -> Iterator[pa.Table]:
        """The documents of a piece. Errors: see `read_piece`; no row with a text column; a bad row, unless the sieve skips them."""
        text, lacking, num_with = self.columns.text, None, 0
        for block in read_piece(piece, self.columns, self.columns.names):
            rows = block.rows
            sieve.num_read += rows.num_read
            sieve.drop(rows.bad)
            if rows.table.num_rows == 0:
                continue
            if text not in rows.table.column_names:  # of lines of JSON, others may have it: each is as good as empty
                bad = block.bad(rows.numbers, "empty", f"no {text!r}")
                lacking = lacking or self.columns.lacking(rows.table.column_names, bad[0].where)
                if sieve.on_bad_row == "fail":
                    raise lacking
                sieve.drop(bad)
                continue
            num_with += rows.num_read
            table = self._documents(block, sieve)
            yield table.select([name for name in (TEXT, ID, DOMAIN, ROW) if name in table.column_names])
        if lacking and not num_with:
            raise lacking

    def _documents(self, block: Block, sieve: Sieve) -> pa.Table:
        table = self.columns.expose(block.rows.table, str(block.path))
        empty = empty_rows(table)
        sieve.drop(block.bad(block.rows.numbers[empty], "empty", f"{self.columns.text!r} is empty"))
        kept = np.ones(table.num_rows, dtype=bool)
        kept[empty] = False
        table = table.append_column(ROW, pa.array(block.rows.numbers)).filter(pa.array(kept))
        return self.columns.cut(sieve.drop_short(table, self.min_characters), self.max_characters)

    def names(self, piece: Piece) -> list[str]:
        """The columns of its first rows."""
        return next((block.rows.table.column_names for block in read_piece(piece, self.columns)), [])

    def rows(self, piece: Piece, wanted: npt.NDArray[np.int64]) -> Iterator[pa.Table]:
        """These rows of the piece (ascending) as they are in the file, without what `dsel` wrote into it before, with `dsel_name`.

        Errors: see `read_piece`; a wanted row is not there any more, or has columns that cannot be read.
        """
        left = wanted
        for block in read_piece(piece, self.columns):
            if not len(left):
                return
            here = left[: np.searchsorted(left, block.first + block.rows.num_read)]
            left = left[len(here) :]
            if not len(here):
                continue
            _refuse_unreadable(block, here)
            table = block.rows.table.take(pa.array(np.searchsorted(block.rows.numbers, here)))
            names = hash_texts(self.columns.cut(self.columns.expose(table, piece.path), self.max_characters)[TEXT])
            yield table.select([name for name in table.column_names if not name.startswith("dsel_")]).append_column(NAME, pa.array(names))
        if len(left):
            raise InputError(f"{piece.path}: {len(left)} rows that were scored are gone; bring them back, or run again")


def _refuse_unreadable(block: Block, wanted: npt.NDArray[np.int64]) -> None:
    """Errors: a wanted row is bad now that all columns are read."""
    lost = wanted[~np.isin(wanted, block.rows.numbers)]
    if len(lost):
        (place,) = block.bad(lost[:1], "", "")
        why = next((bad.detail for bad in block.rows.bad if bad.number == place.number), "it is gone")
        raise InputError(f"{place.where}: is chosen, and cannot be read with all its columns: {why}; mend it and run again")


@dataclass(frozen=True)
class Shards:
    """Reads what `Files` reads, and no more of the source than fits into memory at a time.

    What is fitted is fitted on a random part of `sample` documents, from at most 32 parts of 64 MB; scores are for all. With
    `sample_from` it comes from these files instead: as long as they stay, files that are added to the source, or changed, are
    scored alone. Scores are kept by pieces of about `piece_bytes`. The target is read whole. A file is known by its name, size
    and time, not by its content; one that is broken or has no text column is an error even with `on_bad_row: skip`, since
    nobody can say how much of it is lost. Columns of CSV other than these come out as strings.
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
    sample_from: str | Sequence[str] | None = None
    piece_bytes: int = PIECE_BYTES
    seed: int = 0

    def __post_init__(self) -> None:
        _ = self._files  # checks the options that both have
        for key in ("sample", "piece_bytes"):
            if getattr(self, key) < 1:
                raise InputError(f"data.{key}={getattr(self, key)}: must be at least 1")

    @cached_property
    def stream(self) -> FileStream:
        """The source. Errors: as `find_files`; a Parquet file that is broken."""
        pieces = [piece for path in find_files(self.source, "source") for piece in cut(path, self.piece_bytes)]
        return FileStream(pieces, self._columns, self.min_characters, self.max_characters, self.on_bad_row)

    def identity(self) -> dict[str, Any]:
        """Names, sizes and times of the source's files, content of the target's, and the options."""
        options = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("source", "target")}
        target = [[str(path), hash_file(path)] for path in find_files(self.target, "target")]
        keys = {name: fingerprint([p.key for p in pieces]) for name, pieces in (("source", self.stream.pieces), ("sampled", self._parts))}
        return {**options, **keys, "target": target}

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

    @cached_property
    def _parts(self) -> Sequence[Piece]:
        """What the sample is drawn from: not `piece_bytes`, on which nothing that is chosen may depend."""
        if self.sample_from is None and self.piece_bytes == PIECE_BYTES:
            return self.stream.pieces
        paths = find_files(self.source, "source") if self.sample_from is None else find_files(self.sample_from, "data.sample_from")
        return [piece for path in paths for piece in cut(path)]

    def _sample(self, sieve: Sieve) -> pa.Table:
        """`sample` documents, drawn by their texts: the same however up to 2 GB lie in files; of more, from 32 parts by their names.

        As many parts are read at a time as there are cores.
        """
        names = ["/".join([*Path(part.path).parts[-3:], str(part.start)]) for part in self._parts]  # whatever the folder above
        order = np.argsort(self._luck(hash_texts(pa.array(names))), kind="stable")
        chosen = [*np.sort(order[:MOST_SAMPLED]).tolist(), *order[MOST_SAMPLED:].tolist()]
        kept: list[pa.Table] = []
        below, at_once = MOST_LUCK, num_cores()
        with ThreadPoolExecutor(at_once) as threads:
            for start in range(0, len(chosen), at_once):
                if start >= MOST_SAMPLED and kept:
                    break
                for tables, dropped in threads.map(
                    partial(self._lucky, below), [self._parts[at] for at in chosen[start : start + at_once]]
                ):
                    kept += tables
                    sieve.dropped.update(dropped)
                if sum(table.num_rows for table in kept) > self.sample:
                    kept = [self._draw(kept)]
                    below = self._luck(hash_texts(kept[0][TEXT])).max() if kept[0].num_rows == self.sample else below
        found = {name: None for at in order[:MOST_SAMPLED].tolist() for name in self._named(self._parts[at])}
        self._columns.require(list(found), f"source={self.source}")
        table = self._draw(kept) if kept else pa.table({TEXT: pa.array([], pa.string())})
        return sieve.finish(table, str(self.source))

    def _lucky(self, below: np.uint64, part: Piece) -> tuple[list[pa.Table], dict[str, int]]:
        """The part's documents with no more luck than `below`, at most some times `sample`, and what was dropped."""
        sieve, kept = self.stream.sieve(), list[pa.Table]()
        for table in self.stream.read(part, sieve):
            lucky = table.filter(pa.array(self._luck(hash_texts(table[TEXT])) <= below))
            kept += [lucky] if lucky.num_rows else []
            if sum(table.num_rows for table in kept) > 2 * self.sample:
                kept = [self._draw(kept)]
        return kept, dict(sieve.dropped)

    def _named(self, part: Piece) -> list[str]:
        """Its columns, where the user has named some that must be there."""
        return self.stream.names(part) if (self.id_column, self.domain_column) != (ID, DOMAIN) else []

    def _luck(self, names: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """A number by text; the smallest are taken."""
        return remix(names, self.seed)

    def _draw(self, tables: list[pa.Table]) -> pa.Table:
        """Of each text the first, and of those the ones with the most luck, in order."""
        table = unify(tables, ["source"] * len(tables))
        names, first = np.unique(hash_texts(table[TEXT]), return_index=True)
        return table.take(pa.array(np.sort(first[np.argsort(self._luck(names), kind="stable")[: self.sample]])))
