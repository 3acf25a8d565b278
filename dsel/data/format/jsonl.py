"""JSON lines: an object a line. Blank lines are no rows."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.json

from dsel.data.format.rows import Before, Rows, read_in_blocks
from dsel.data.text import Columns, show
from dsel.error import InputError
from dsel.sieve import Bad


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_null(kind))


class TwiceError(ValueError):
    """A key stands twice in an object."""


def parse(data: bytes, name: str, columns: Columns, before: Before = int) -> Rows:
    """The rows of `data`. Errors: a column whose type changes from line to line, a text column without any string."""
    try:
        table = _read(data)
        table.validate(full=True)
    except (pa.ArrowException, UnicodeDecodeError):  # the latter is pyarrow failing to word its own message
        return _parse_lines(data, name, columns, before)
    present = [table.schema.field(text).type for text in columns.texts if text in table.column_names]
    if before is not int and not all(map(_is_text, present)):
        return _parse_lines(data, name, columns, before)  # a part of a file says nothing of the others' types
    # The reader takes an object over many lines, and many on a line, for rows: line numbers would lie.
    if table.num_rows != data.count(b"\n") + (not data.endswith(b"\n")):
        return _parse_lines(data, name, columns, before)
    return Rows.whole(table)


def lines(data: bytes) -> npt.NDArray[np.int64]:
    """1-based line of each row."""
    return np.array([i for i, line in enumerate(data.split(b"\n"), 1) if line.strip()], dtype=np.int64)


def _read(data: bytes) -> pa.Table:
    """The table, with strings that look like dates left as strings."""

    def read(block_size: int, strings: Sequence[str] = ()) -> pa.Table:
        schema = pa.schema([(name, pa.string()) for name in strings])
        return pa.json.read_json(
            io.BytesIO(data),
            read_options=pa.json.ReadOptions(block_size=block_size),
            parse_options=pa.json.ParseOptions(explicit_schema=schema),
        )

    table = read_in_blocks(read, len(data))
    dates = [f.name for f in table.schema if pa.types.is_temporal(f.type)]
    return read_in_blocks(lambda size: read(size, dates), len(data)) if dates else table


def _parse_lines(data: bytes, name: str, columns: Columns, before: Before) -> Rows:
    """What `parse` gives, line by line."""
    where = lines(data) + before()
    rows = [line for line in data.split(b"\n") if line.strip()]
    found = [_examine(line, columns.texts) for line in rows]
    bad = [Bad(name, int(n), *fault) for n, fault in zip(where, found, strict=True) if fault is not None]
    good = np.array([i for i, fault in enumerate(found) if fault is None], dtype=np.int64)
    if len(good) == 0:
        if before is int and bad and all(b.reason == "not_a_string" for b in bad):
            raise InputError(f"{bad[0].where}: {bad[0].detail}, as in every line; set data.text_column= to a text column")
        return Rows(pa.table({columns.text: pa.array([], pa.string())}), good, len(rows), bad)
    try:
        table = _read(b"\n".join(rows[i] for i in good))
    except pa.ArrowInvalid as error:
        raise _conflict(str(error), name, where[good]) from error
    return Rows(table, good, len(rows), bad)


def _examine(line: bytes, texts: Sequence[str]) -> tuple[str, str] | None:
    """Reason and detail of what is wrong with a line; None where it is right."""
    try:
        record = json.loads(line.decode(), object_pairs_hook=_distinct)
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        return "invalid_utf8", f"invalid UTF-8 (byte {error.object[error.start]:#04x} at {error.start} of the line)"
    except UnicodeEncodeError:
        return "invalid_utf8", "half of a surrogate pair, which is no character"
    except json.JSONDecodeError as error:
        return "broken_json", f"broken JSON ({error.msg} at character {error.pos + 1}) in {show(line.decode())}"
    except (TwiceError, RecursionError) as error:
        return "broken_json", f"broken JSON ({error}) in {show(line.decode())}"
    if not isinstance(record, dict):
        return "not_an_object", f"not a JSON object but {show(record)}; JSON lines hold one {{...}} a line"
    for name in texts:
        value = record.get(name)
        if value is not None and not isinstance(value, str):
            return "not_a_string", f"{name!r} is {show(value)}, a {type(value).__name__} and not a string"
    return None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        raise TwiceError(f"key {next(k for k in keys if keys.count(k) > 1)!r} stands twice")
    return record


def _conflict(message: str, name: str, where: npt.NDArray[np.int64]) -> InputError:
    """The error for a column whose type changes, from the reader's words."""
    column, row = re.search(r"Column\(/?(.*?)\) (.*) in row", message), re.search(r"in row (\d+)", message)
    if column is None or row is None or int(row[1]) >= len(where):
        return InputError(f"{name}: {message.splitlines()[0]}; mend the file")
    return InputError(f"{name}:{where[int(row[1])]}: column {column[1]!r} {column[2]}; give it one type in every line")
