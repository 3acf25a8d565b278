"""From what the user typed to files, and from a file to rows, whatever its format and compression."""

from __future__ import annotations

import glob
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.artifact import hash_file
from dsel.data.format import aligned, csv, jsonl, parquet, po, tsv, txt
from dsel.data.format.rows import Before, Rows
from dsel.data.text import Columns
from dsel.error import InputError

PARSERS = {".parquet": parquet.parse, ".jsonl": jsonl.parse, ".json": jsonl.parse, ".csv": csv.parse, ".txt": txt.parse}
PAIR_PARSERS = {".tsv": tsv.parse, ".po": po.parse}  # of pairs of sentences only
LINES = {".jsonl": jsonl.lines, ".json": jsonl.lines, ".csv": csv.lines, ".txt": txt.lines, ".tsv": tsv.lines}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
BOM = b"\xef\xbb\xbf"
CHUNK_BYTES = 1 << 24
STEP_BYTES = 1 << 18  # of a file that are decompressed at a time: after which line it is broken is known as closely


def find_files(given: object, side: str, src: str | None = None) -> list[Path]:
    """The files that `source=` or `target=` (a path, glob, folder, or list of those) names, sorted, none twice.

    `src`: the source side's name where pairs are looked for, which come in more formats. Errors: nothing there, an empty folder, a glob
    without match, an unknown extension. In a folder, hidden files and those of other extensions are passed over.
    """
    items = [given] if isinstance(given, str | Path) else given
    if not isinstance(items, Iterable):
        raise InputError(f"{side}={given}: give a path, a glob, a folder, or a list of those")
    known = [*PARSERS, *PAIR_PARSERS, f".{src}"] if src else [*PARSERS]
    found = {path for item in items for path in _expand(str(item), side, known)}
    if not found:
        raise InputError(f"{side}={given}: names no file; give a path, a glob, a folder, or a list of those")
    for path in found:
        if not str(path).isprintable() and any("\udc80" <= letter <= "\udcff" for letter in str(path)):
            raise InputError(f"{side}={given}: the name of {str(path)!r} is not UTF-8; rename the file")
    return sorted(found)


def _expand(item: str, side: str, known: Collection[str]) -> list[Path]:
    path = Path(item).expanduser()
    if path.is_dir():
        inside = [p for p in path.rglob("*") if p.is_file() and not _hidden(p.relative_to(path))]
        found = [p for p in inside if split_name(p)[0] in known]
        if not found:
            other = f"{len(inside)} files, none of a known kind" if inside else "empty"
            raise InputError(f"{side}={item}: the folder is {other}; put files in it ({_say(known)})")
        return found
    if not path.exists():
        if not glob.has_magic(item):
            raise InputError(f"{side}={item}: no such file or folder (from {Path.cwd()}); correct {side}=")
        paths = [Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file()]  # noqa: PTH207
        if not paths:
            raise InputError(f"{side}={item}: no file matches this glob (from {Path.cwd()}); correct {side}=")
    else:
        paths = [path]
    for p in paths:
        if split_name(p)[0] not in known:
            raise InputError(f"{side}={item}: unknown extension {p.suffix!r} of {p}; known are {_say(known)}")
    return paths


def _say(known: Iterable[str]) -> str:
    return f"{', '.join(known)}, each also with {' or '.join(COMPRESSIONS)}"


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def hash_sides(sides: Mapping[str, Iterable[Path]], columns: Columns) -> dict[str, list[list[str]]]:
    """Name and content hash of each file of each side, those that stand beside it for the other language too."""
    return {side: [[str(p), hash_file(p)] for path in paths for p in beside(path, columns)] for side, paths in sides.items()}


def split_name(path: Path) -> tuple[str, str | None]:
    """Format (`.jsonl`) and compression (`gzip`, `zstd` or None) by the file's name."""
    compression = COMPRESSIONS.get(path.suffix.lower())
    inner = path.with_suffix("") if compression else path
    return inner.suffix.lower(), compression


def read_chunks(path: Path, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The file's content, decompressed, some at a time. Errors: unreadable, broken or cut off: after which line."""
    held: list[bytes] = []
    size = num_lines = 0
    try:
        with pa.input_stream(str(path), compression=split_name(path)[1]) as stream:
            while some := stream.read(min(STEP_BYTES, chunk_bytes)):
                held.append(some)
                size += len(some)
                num_lines += some.count(b"\n")
                if size >= chunk_bytes:
                    yield b"".join(held)
                    held, size = [], 0
        if held:
            yield b"".join(held)
    except OSError as error:
        message = str(error).splitlines()[0]
        place = f" after line {num_lines}" if num_lines else ""
        raise InputError(f"{path}: cannot be read{place} ({message}); write the file again, or take it out") from error


def read_bytes(path: Path) -> bytes:
    """The file's content, decompressed, without a byte order mark. Errors: unreadable, broken compression, empty."""
    data = b"".join(read_chunks(path)).removeprefix(BOM)
    if not data.strip():
        raise InputError(f"{path}: the file is empty; take it out or fill it")
    return data


def beside(path: Path, columns: Columns) -> list[Path]:
    """The file, and of two that are aligned line by line the other as well. Errors: it is not there."""
    if columns.src is None or split_name(path)[0] != f".{columns.src}":
        return [path]
    other = aligned.other_side(path, columns)
    if not other.exists():
        raise InputError(
            f"{path}: no {other.name} beside it, which would hold its translations; put it there, or set data.{columns.sides[1]}_column="
        )
    return [path, other]


def parse(data: bytes, path: Path, columns: Columns, before: Before = int) -> Rows:
    """The rows of a file that holds `data`, or a part of it. Errors: see the formats."""
    if len(paths := beside(path, columns)) > 1:
        return aligned.parse(data, read_bytes(paths[1]), path, columns)
    return {**PARSERS, **PAIR_PARSERS}[split_name(path)[0]](data, str(path), columns, before)


def places(data: bytes, path: Path, numbers: npt.NDArray[np.int64]) -> tuple[list[int], bool]:
    """The lines on which the rows of these numbers stand, and True; the numbers, and False, where there are no lines."""
    kind = split_name(path)[0]
    find = LINES.get(kind, None if kind in PARSERS or kind in PAIR_PARSERS else txt.lines)
    return (numbers.tolist(), False) if find is None else (find(data)[numbers].tolist(), True)
