"""Datasets of the Hugging Face Hub too large for memory, or for the disk: shard by shard, as they are streamed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dsel.artifact import fingerprint
from dsel.corpus import Documents
from dsel.data.blocks import BlockStream
from dsel.data.files import unify
from dsel.data.format.parquet import check
from dsel.data.format.piece import Block
from dsel.data.format.rows import Rows
from dsel.data.hub import ROWS_PER_BATCH, Hub
from dsel.data.text import Columns, check_limits
from dsel.error import InputError
from dsel.pool import DOMAIN, ID, TEXT
from dsel.sieve import Bad, OnBadRow, Sieve, draw

MOST_SAMPLED = 32  # shards that are read for the sample
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Shard:
    """Number `start` of the shards of a dataset. `state` is size and time of a local file."""

    path: str
    start: int
    num_bytes: int
    key: str
    state: tuple[int, int] | None

    def check(self) -> None:
        """Errors: a local file is gone, or not the one that was found."""
        if self.state is not None and _state(self.path) != self.state:
            raise InputError(f"{self.path}: is gone, or changed while it was in use; run again")


@dataclass(frozen=True)
class DatasetStream(BlockStream):
    """The shards of a dataset as pieces. `place` is what `load_dataset` is told, with the commit that was found."""

    pieces: Sequence[Shard]
    place: tuple[str, str | None, str, str | None]

    def blocks(self, piece: Shard, only: Collection[str] = ()) -> Iterator[Block]:
        """The rows of a shard. Errors: whatever the library finds, a file that has changed."""
        piece.check()
        _, dataset = open_dataset(*self.place)
        shard = dataset.shard(num_shards=len(self.pieces), index=piece.start)
        batches, first = shard.with_format("arrow").iter(batch_size=ROWS_PER_BATCH), 0
        while (batch := _next(batches, piece, first)) is not None:
            rows = check(batch.replace_schema_metadata(None), piece.path, first)
            yield Block(replace(rows, numbers=rows.numbers + first), first, piece.path, before=partial(int, first))
            first += rows.num_read
        if first == 0:
            bad = Bad(piece.path, 0, "empty_file", "the shard is empty", in_line=False)
            yield Block(Rows(pa.table({}), np.empty(0, np.int64), 0, [bad]), 0, piece.path)
        piece.check()


@dataclass(frozen=True)
class HubStream:
    """Reads split `split` of dataset `source` as `datasets.load_dataset(..., streaming=True)` does, a shard at a time, and no
    more of it than fits into memory; `target_split` of `target` whole.

    What is fitted is fitted on `sample` documents, the first of each of at most 32 shards; scores are for all. Shards with
    chosen rows are fetched once more. A shard is known by its address, in which the Hub puts the dataset's commit, a local one
    by name, size and time; what has neither by its address alone. `source_revision` pins the commit. A shard that the library
    cannot read is an error even with `on_bad_row: skip`.
    """

    source: str
    target: str
    source_config: str | None = None
    target_config: str | None = None
    split: str = "train"
    target_split: str = "train"
    text_column: str = TEXT
    domain_column: str = DOMAIN
    id_column: str = ID
    source_revision: str | None = None
    target_revision: str | None = None
    on_bad_row: OnBadRow = "fail"
    min_characters: int = 1
    max_characters: int | None = None
    sample: int = 20_000
    seed: int = 0

    def __post_init__(self) -> None:
        _ = self._hub  # checks the options that both have
        check_limits(vars(self))
        if self.sample < 1:
            raise InputError(f"data.sample={self.sample}: must be at least 1")

    @cached_property
    def stream(self) -> DatasetStream:
        """The source. Errors: no such dataset or split, or no way to it."""
        place = (self.source, self.source_config, self.split, self.source_revision)
        with self._hub.naming("source"):
            builder, dataset = open_dataset(*place)
        files: Any = (builder.config.data_files or {}).get(self.split, ())
        known = list(zip(files, files.origin_metadata, strict=True)) if len(files) == dataset.num_shards else []  # a shard a file
        commit = next((origin[1] for _, origin in known if len(origin) == 2), self.source_revision)
        split = (dataset.info.splits or {}).get(self.split)
        share = max(1, (split.num_bytes or 0) // dataset.num_shards) if split else 1
        shards = [
            _shard(f"{self.source} [{self.split}] shard {number}", number, share, builder.hash) for number in range(dataset.num_shards)
        ]
        shards = [_shard(file, number, share, origin) for number, (file, origin) in enumerate(known)] or shards
        options = (self._columns, self.min_characters, self.max_characters, self.on_bad_row)
        return DatasetStream(shards, *options, place=(*place[:3], commit))

    def identity(self) -> dict[str, Any]:
        """The options, the source's shards (where no commit is given, they are looked up), the content of a local target."""
        options = {field.name: getattr(self, field.name) for field in fields(self)}
        pinned = COMMIT.fullmatch(self.source_revision or "") is not None
        return {
            **options,
            "shards": "" if pinned else [s.key for s in self.stream.pieces],
            "target": self._hub.identity()["files"].get("target"),
        }

    def read(self) -> Documents:
        """The target, and a sample of the source. Errors: as `Hub.read`."""
        sieves = {side: Sieve(side, self.on_bad_row) for side in ("source", "target")}
        target, _ = self._hub.read_side(sieves["target"])
        return Documents(
            source=self._sample(sieves["source"]),
            target=target,
            dropped={"target": dict(sieves["target"].dropped)},
            listed=sieves["target"].listed,
            facts={"shards": len(self.stream.pieces), "commit": self.stream.place[3]},
        )

    @property
    def _columns(self) -> Columns:
        return Columns(self.text_column, self.id_column, self.domain_column)

    @property
    def _hub(self) -> Hub:
        shared = {field.name: getattr(self, field.name) for field in fields(Hub) if hasattr(self, field.name)}
        return Hub(**shared)

    def _sample(self, sieve: Sieve) -> pa.Table:
        stream, columns = self.stream, self._columns
        luck = draw([str(shard.start) for shard in stream.pieces], self.seed)
        chosen = np.sort(np.argsort(luck, kind="stable")[:MOST_SAMPLED]).tolist()
        kept: list[pa.Table] = []
        for number in chosen:
            left = -(-self.sample // len(chosen))
            for table in stream.read(stream.pieces[number], sieve):
                kept.append(table.slice(0, left))
                left -= table.num_rows
                if left <= 0:
                    break
        columns.require(stream.names(stream.pieces[chosen[0]]), f"source={self.source}")
        table = unify(kept, ["source"] * len(kept)) if kept else pa.table({TEXT: pa.array([], pa.string())})
        return sieve.finish(table, self.source)


@cache
def open_dataset(path: str, name: str | None, split: str, revision: str | None) -> tuple[Any, Any]:
    """The builder and the stream of a dataset, opened once in a process."""
    import datasets

    builder = datasets.load_dataset_builder(path, name=name, revision=revision)
    return builder, builder.as_streaming_dataset(split=split)


def _shard(path: str, number: int, num_bytes: int, origin: Any) -> Shard:
    state = _state(path)
    return Shard(path, number, state[0] if state else num_bytes, fingerprint(path, number, state or origin), state)


def _state(path: str) -> tuple[int, int] | None:
    """Size and time of a local file; None where there is none."""
    try:
        state = Path(path).stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def _next(batches: Iterator[pa.Table], shard: Shard, first: int) -> pa.Table | None:
    """The next batch, if there is one. Errors: whatever the library raises, with the shard's address."""
    try:
        return next(batches, None)
    except Exception as error:
        message = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"{shard.path}: cannot be read from row {first} on ({message}); run again, or give another source=") from error
