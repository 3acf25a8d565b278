"""Files too large for memory: a sample of them to fit on, and a stream of pieces to map over."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dsel.artifact import fingerprint, hash_file
from dsel.corpus import Documents
from dsel.data.blocks import BlockStream
from dsel.data.drawing import Drawing
from dsel.data.files import Files
from dsel.data.format.file import find_files
from dsel.data.format.piece import PIECE_BYTES, Block, Piece, cut, read_piece
from dsel.data.text import Columns
from dsel.error import InputError
from dsel.functional.cores import num_cores
from dsel.functional.hashing import hash_texts, remix
from dsel.pool import DOMAIN, ID, TEXT
from dsel.sieve import OnBadRow, Sieve

MOST_SAMPLED = 128  # parts that are read for the sample


@dataclass(frozen=True)
class FileStream(BlockStream):
    """The source's files as pieces. Equal files under equal names with equal times are taken to be the same."""

    pieces: Sequence[Piece]

    def blocks(self, piece: Piece, only: Collection[str] = ()) -> Iterator[Block]:
        """The rows of a piece. Errors: see `read_piece`."""
        return read_piece(piece, self.columns, only)


@dataclass(frozen=True)
class Shards:
    """Reads what `Files` reads, and no more of the source than fits into memory at a time.

    What is fitted is fitted on a random part of `sample` documents, from at most 128 parts of 16 MB; scores are for all. With
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
    sample: int = 20_000
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
            on_bad_row=self.on_bad_row, min_characters=self.min_characters, max_characters=self.max_characters,
        )  # fmt: skip

    @cached_property
    def _parts(self) -> Sequence[Piece]:
        """What the sample is drawn from: not `piece_bytes`, on which nothing that is chosen may depend."""
        if self.sample_from is None and self.piece_bytes == PIECE_BYTES:
            return self.stream.pieces
        paths = find_files(self.source, "source") if self.sample_from is None else find_files(self.sample_from, "data.sample_from")
        return [piece for path in paths for piece in cut(path)]

    def _sample(self, sieve: Sieve) -> pa.Table:
        """`sample` documents, drawn by their texts: the same however up to 2 GB lie in files; of more, from 128 parts by their names.

        As many parts are read at a time as there are cores.
        """
        names = ["/".join([*Path(part.path).parts[-3:], str(part.start)]) for part in self._parts]  # whatever the folder above
        order = np.argsort(remix(hash_texts(pa.array(names)), self.seed), kind="stable")
        first, others = np.sort(order[:MOST_SAMPLED]).tolist(), order[MOST_SAMPLED:].tolist()
        drawing = Drawing(self.sample, self.seed)
        with ThreadPoolExecutor(num_cores()) as threads:
            sift = partial(self._sift, drawing)
            for tables, dropped in threads.map(sift, [self._parts[at] for at in first]):
                drawing.add(tables)
                sieve.dropped.update(dropped)
        for tables, dropped in map(sift, [self._parts[at] for at in others]):
            if drawing.num_drawn:
                break
            drawing.add(tables)
            sieve.dropped.update(dropped)
        found = {name: None for at in order[:MOST_SAMPLED].tolist() for name in self._named(self._parts[at])}
        self._columns.require(list(found), f"source={self.source}")
        return sieve.finish(drawing.finish(), str(self.source))

    def _sift(self, drawing: Drawing, part: Piece) -> tuple[list[pa.Table], dict[str, int]]:
        """The part's documents that may be drawn, and what was dropped."""
        sieve = self.stream.sieve()
        return [drawing.sift(table) for table in self.stream.read(part, sieve)], dict(sieve.dropped)

    def _named(self, part: Piece) -> list[str]:
        """Its columns, where the user has named some that must be there."""
        return self.stream.names(part) if (self.id_column, self.domain_column) != (ID, DOMAIN) else []
