"""Files in parts that fit into memory: byte ranges of lines, row groups of Parquet. Parts can be read in any order, by many readers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dsel.artifact import fingerprint
from dsel.data.format import parquet
from dsel.data.format.file import BOM, parse, places, read_bytes, split_name
from dsel.data.format.rows import Before, Rows
from dsel.data.text import Columns
from dsel.error import InputError
from dsel.sieve import Bad

PIECE_BYTES = 1 << 26
BLOCK_BYTES = 1 << 24  # of lines that are parsed at a time
ROWS_PER_BATCH = 1 << 14
NEW_LINE, QUOTE = 10, 34


@dataclass(frozen=True)
class Piece:
    """Bytes `start` to `stop` of a file of lines (the lines that begin there), or these row groups of a Parquet file.

    `size` and `time` are the file's when it was cut: a file that has changed since is an error.
    """

    path: str
    start: int
    stop: int
    num_bytes: int
    size: int
    time: int

    @property
    def key(self) -> str:
        """Changes with the file, as far as its name, size and time tell, and with the part."""
        return fingerprint(self.path, self.start, self.stop, self.size, self.time)

    def check(self) -> None:
        """Errors: the file is gone, or not the one that was cut."""
        try:
            state = Path(self.path).stat()
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read any more ({error.strerror}); bring it back and run again") from error
        if (state.st_size, state.st_mtime_ns) != (self.size, self.time):
            raise InputError(f"{self.path}: changed while it was in use ({self.size} bytes before, {state.st_size} now); run again")


@dataclass(frozen=True)
class Block:
    """Rows that were read at once, numbered from the beginning of the piece."""

    rows: Rows
    first: int  # number of the block's first row
    path: Path
    data: bytes = b""  # the rows' own lines
    before: Before = int  # lines, or rows, of the file before them

    def bad(self, numbers: npt.NDArray[np.int64], reason: str, detail: str) -> list[Bad]:
        """That the rows of these numbers are bad, with their places in the file."""
        found, in_line = places(self.data, self.path, numbers - self.first)
        before = self.before() if found else 0
        return [Bad(str(self.path), before + n, reason, detail, in_line) for n in found]


def cut(path: Path, piece_bytes: int = PIECE_BYTES) -> list[Piece]:
    """The parts of a file, in order. Compressed lines, and CSV, whose quotes may hold line breaks, come in one part."""
    state = path.stat()
    kind, compression = split_name(path)
    if compression or kind == ".csv" or state.st_size == 0:
        bounds = [0, state.st_size]
    elif kind == ".parquet":
        bounds = _row_groups(path, piece_bytes)
    else:
        bounds = [*range(0, state.st_size, piece_bytes), state.st_size]
    share = state.st_size / max(bounds[-1], 1)  # bytes of a row group, more or less
    return [Piece(str(path), a, b, round((b - a) * share), state.st_size, state.st_mtime_ns) for a, b in pairwise(bounds)]


def read_piece(piece: Piece, columns: Columns, only: Collection[str] = (), block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """The rows of a piece, a block at a time; with `only` no more than these columns of a Parquet file.

    Errors: a broken file, one that has changed; see the formats.
    """
    piece.check()
    path = Path(piece.path)
    kind, compression = split_name(path)
    if kind != ".parquet":
        num_read = 0
        for block in _blocks_of_lines(piece, path, columns, block_bytes):
            num_read += block.rows.num_read
            yield block
        if num_read == 0 and (piece.start, piece.stop) == (0, piece.size):
            bad = [Bad(piece.path, 1, "empty_file", "the file is empty")]
            yield Block(Rows(pa.table({}), np.empty(0, np.int64), 0, bad), 0, path)
    elif compression:
        yield Block(parse(read_bytes(path), path, columns), 0, path)
    else:
        yield from _batches(piece, path, only)
    piece.check()


def _row_groups(path: Path, piece_bytes: int) -> list[int]:
    with parquet.naming(str(path)):
        metadata = pq.read_metadata(path)
    bounds, size = [0], 0
    for group in range(metadata.num_row_groups):
        size += metadata.row_group(group).total_byte_size
        if size >= piece_bytes:
            bounds.append(group + 1)
            size = 0
    return bounds if bounds[-1] == metadata.num_row_groups else [*bounds, metadata.num_row_groups]


def _batches(piece: Piece, path: Path, only: Collection[str]) -> Iterator[Block]:
    with parquet.naming(piece.path):
        file = pq.ParquetFile(path)
        above = sum(file.metadata.row_group(group).num_rows for group in range(piece.start))
        wanted = [name for name in file.schema_arrow.names if name in only] if only else None
        batches = file.iter_batches(ROWS_PER_BATCH, row_groups=range(piece.start, piece.stop), columns=wanted)
    first = 0
    while True:
        with parquet.naming(piece.path):
            batch = next(batches, None)
        if batch is None:
            return
        rows = parquet.check(pa.Table.from_batches([batch]), piece.path, above + first)
        yield Block(replace(rows, numbers=rows.numbers + first), first, path, before=partial(int, above + first))
        first += rows.num_read


def _blocks_of_lines(piece: Piece, path: Path, columns: Columns, block_bytes: int) -> Iterator[Block]:
    first, lines, header, blank = 0, 0, b"", b""
    is_csv = split_name(path)[0] == ".csv"
    for data in _split(_chunks(piece, path, block_bytes), _end_of_csv if is_csv else _end_of_lines):
        text = data if lines or piece.start else data.removeprefix(BOM)
        if is_csv and not header:
            text, blank = blank + text, b""
            header = text[: _first_end(text)]
            if not header.strip():
                header, blank = b"", text  # nothing but blank lines so far
                continue
        elif is_csv:
            text = header + text
        before = _Before(piece, lines - (header.count(b"\n") if lines else 0))
        rows = parse(text, path, columns, before)
        yield Block(replace(rows, numbers=rows.numbers + first), first, path, text, before)
        first += rows.num_read
        lines += text.count(b"\n") - (header.count(b"\n") if lines else 0)


@dataclass(frozen=True)
class _Before:
    """How many lines of the file stand before a block: counted when somebody asks, since who reads a part has not seen those before."""

    piece: Piece
    lines: int

    def __call__(self) -> int:
        if self.piece.start == 0:
            return self.lines
        with Path(self.piece.path).open("rb") as file:
            return self.lines + _seek_line(file, self.piece.start, count=True)


def _seek_line(file: Any, start: int, count: bool = False) -> int:
    """Go to the first line that begins at byte `start` or later; the number of lines before it, if asked."""
    num_lines, at = 0, 0
    while count and at < start - 1:
        chunk = file.read(min(BLOCK_BYTES, start - 1 - at))
        num_lines += chunk.count(b"\n")
        at += len(chunk)
    if start:
        file.seek(start - 1)
        num_lines += file.readline().endswith(b"\n")
    return num_lines


def _chunks(piece: Piece, path: Path, block_bytes: int) -> Iterator[bytes]:
    """The piece's bytes, to the end of its last line."""
    compression = split_name(path)[1]
    try:
        if compression:
            with pa.input_stream(str(path), compression=compression) as stream:
                while chunk := stream.read(block_bytes):
                    yield chunk
            return
        with path.open("rb") as file:
            _seek_line(file, piece.start)
            while (left := piece.stop - file.tell()) > 0:
                chunk = file.read(min(block_bytes, left))
                if not chunk:
                    return
                yield chunk if file.tell() < piece.stop or chunk.endswith(b"\n") else chunk + file.readline()
    except OSError as error:
        message = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read ({message}); write the file again, or take it out") from error


def _split(chunks: Iterator[bytes], find_end: Callable[[bytes], int]) -> Iterator[bytes]:
    """The chunks' bytes in blocks that end where a row does."""
    held: list[bytes] = []  # of a row longer than a chunk: joined once, when it ends
    for chunk in chunks:
        if find_end is _end_of_lines and NEW_LINE not in chunk:
            held.append(chunk)
            continue
        data = b"".join([*held, chunk])
        end = find_end(data)
        held = [data[end:]]
        if end:
            yield data[:end]
    if data := b"".join(held):
        yield data


def _end_of_lines(data: bytes) -> int:
    return data.rfind(b"\n") + 1


def _csv_ends(data: bytes) -> npt.NDArray[np.int64]:
    """Where rows end: line breaks after an even number of quotes."""
    letters = np.frombuffer(data, np.uint8)
    open_quote = np.cumsum(letters == QUOTE, dtype=np.int32) & 1
    return np.flatnonzero((letters == NEW_LINE) & (open_quote == 0)) + 1


def _end_of_csv(data: bytes) -> int:
    ends = _csv_ends(data)
    return int(ends[-1]) if len(ends) else 0


def _first_end(data: bytes) -> int:
    """Where the header ends: the first row that is not blank."""
    start = 0
    for end in _csv_ends(data).tolist():
        if data[start:end].strip():
            return int(end)
        start = end
    return len(data)
