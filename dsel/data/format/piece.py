"""Files in parts that fit into memory: byte ranges of lines, row groups of Parquet. Parts can be read in any order, by many readers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
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
from dsel.data.format.file import BOM, CHUNK_BYTES, parse, places, read_bytes, read_chunks, split_name
from dsel.data.format.rows import Before, Rows
from dsel.data.format.split import MOST_ROW_BYTES, first_end, split
from dsel.data.text import Columns
from dsel.error import InputError
from dsel.sieve import Bad

PIECE_BYTES = 1 << 24
BLOCK_BYTES = CHUNK_BYTES  # of lines that are parsed at a time
MOST_ROWS = 1 << 14  # of Parquet that are parsed at a time, or as many as make up `BLOCK_BYTES`


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
    whole: bool  # whether it is all of the file

    @property
    def key(self) -> str:
        """Changes with the file, as far as its name, size and time tell, and with the part."""
        return fingerprint(str(Path(self.path).absolute()), self.start, self.stop, self.size, self.time)

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
    path: Path | str
    data: bytes | None = None  # the rows' own lines, where they have any
    before: Before = int  # lines, or rows, of the file before them

    def bad(self, numbers: npt.NDArray[np.int64], reason: str, detail: str) -> list[Bad]:
        """That the rows of these numbers are bad, with their places in the file."""
        rows = numbers - self.first
        found, in_line = (rows.tolist(), False) if self.data is None else places(self.data, Path(self.path), rows)
        before = self.before() if found else 0
        return [Bad(str(self.path), before + n, reason, detail, in_line) for n in found]


def cut(path: Path, piece_bytes: int = PIECE_BYTES) -> list[Piece]:
    """The parts of a file, in order, of one size, which is at most about `piece_bytes`. Compressed lines, and CSV, whose quotes may
    hold line breaks, come in one part."""
    state = path.stat()
    kind, compression = split_name(path)
    if compression or kind == ".csv" or state.st_size == 0:
        bounds = [0, state.st_size]
    elif kind == ".parquet":
        bounds = _row_groups(path, piece_bytes)
    else:
        count = -(-state.st_size // piece_bytes)
        bounds = [state.st_size * at // count for at in range(count + 1)]
    share = state.st_size / max(bounds[-1], 1)  # bytes of a row group, more or less
    whole = len(bounds) == 2
    return [Piece(str(path), a, b, round((b - a) * share), state.st_size, state.st_mtime_ns, whole) for a, b in pairwise(bounds)]


def read_piece(piece: Piece, columns: Columns, only: Collection[str] = (), block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """The rows of a piece, a block at a time; with `only` no more than these columns of a Parquet file.

    All columns of CSV are strings: it has no types, and a part says nothing of the others'. A file without rows is one bad
    row. Errors: a broken file, one that has changed; see the formats.
    """
    piece.check()
    path, num_read = Path(piece.path), 0
    for block in _blocks(piece, path, columns, only, block_bytes):
        num_read += block.rows.num_read
        yield block
    if num_read == 0 and piece.whole:
        in_line = split_name(path)[0] != ".parquet"
        bad = Bad(piece.path, int(in_line), "empty_file", "the file is empty", in_line)
        yield Block(Rows(pa.table({}), np.empty(0, np.int64), 0, [bad]), 0, path)
    piece.check()


def _blocks(piece: Piece, path: Path, columns: Columns, only: Collection[str], block_bytes: int) -> Iterator[Block]:
    kind, compression = split_name(path)
    if kind != ".parquet":
        yield from _blocks_of_lines(piece, path, columns, block_bytes)
    elif compression:
        yield Block(parse(read_bytes(path), path, columns), 0, path)
    else:
        yield from _batches(piece, path, columns, only, block_bytes)


def _row_groups(path: Path, piece_bytes: int) -> list[int]:
    with parquet.naming(str(path)):
        metadata = pq.read_metadata(path)
    ends = np.cumsum([metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)])
    total = int(ends[-1]) if len(ends) else 0
    count = -(-total // piece_bytes)
    inner = np.unique(np.searchsorted(ends, np.arange(1, count) * (total / max(count, 1))) + 1)
    return [0, *inner[inner < len(ends)].tolist(), metadata.num_row_groups]


def _batches(piece: Piece, path: Path, columns: Columns, only: Collection[str], block_bytes: int) -> Iterator[Block]:
    with parquet.naming(piece.path):
        file = pq.ParquetFile(path, page_checksum_verification=True)  # where the file has checksums: else damage may read well
        groups = [file.metadata.row_group(group) for group in range(piece.stop)]
        above, num_rows = (sum(group.num_rows for group in some) for some in (groups[: piece.start], groups[piece.start :]))
        num_bytes = sum(group.total_byte_size for group in groups[piece.start :])
        names = file.schema_arrow.names
        wanted = [name for name in names if name in only] if columns.text in only and columns.text in names else None
        most = max(1, min(MOST_ROWS, block_bytes * num_rows // max(num_bytes, 1)))
        batches = file.iter_batches(most, row_groups=range(piece.start, piece.stop), columns=wanted)
    first = 0
    while True:
        with parquet.naming(piece.path, above + first):
            batch = next(batches, None)
        if batch is None:
            return
        rows = parquet.check(pa.Table.from_batches([batch]), piece.path, above + first)
        yield Block(replace(rows, numbers=rows.numbers + first), first, path, before=partial(int, above + first))
        first += rows.num_read


def _blocks_of_lines(piece: Piece, path: Path, columns: Columns, block_bytes: int) -> Iterator[Block]:
    first, lines, header, blank = 0, 0, b"", b""
    is_csv = split_name(path)[0] == ".csv"
    for data in split(_chunks(piece, path, block_bytes), is_csv):
        if len(data) >= MOST_ROW_BYTES:
            line = _Before(piece, lines)() + 1
            raise InputError(f"{path}:{line}: a row of over {MOST_ROW_BYTES} bytes{' or an open quote' * is_csv}; mend it")
        text = data if lines or piece.start else data.removeprefix(BOM)
        if is_csv and not header:
            text, blank = blank + text, b""
            header = text[: first_end(text)]
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
        num_lines += any(part.endswith(b"\n") for part in _rest_of_line(file))
    return num_lines


def _rest_of_line(file: Any) -> Iterator[bytes]:
    """To the end of the line, which may be long, or of the file."""
    while part := file.readline(BLOCK_BYTES):
        yield part
        if part.endswith(b"\n"):
            return


def _chunks(piece: Piece, path: Path, block_bytes: int) -> Iterator[bytes]:
    """The piece's bytes, to the end of its last line."""
    if split_name(path)[1]:
        yield from read_chunks(path, block_bytes)
        return
    try:
        with path.open("rb") as file:
            _seek_line(file, piece.start)
            chunk = b"\n"
            while (left := piece.stop - file.tell()) > 0:
                chunk = file.read(min(block_bytes, left))
                if not chunk:
                    return
                yield chunk
            if not chunk.endswith(b"\n"):
                yield from _rest_of_line(file)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); write the file again, or take it out") from error
