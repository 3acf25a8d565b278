"""Comma-separated values with a header line. Blank lines are no rows; line breaks may stand in quotes."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from dsel.data.format.rows import Before, Rows, read_in_blocks
from dsel.data.text import Columns, show
from dsel.error import InputError
from dsel.sieve import Bad


def parse(data: bytes, name: str, columns: Columns, before: Before = int) -> Rows:
    """The rows of `data`; all strings where it is a part of a file. Errors: a header that names a column twice, a quote that is
    never closed."""
    header = _header(data, name)
    strings = columns.names if before is int else header  # a part of a file says nothing of the others' types
    if data.count(b'"') % 2 == 0:  # else a quote may be open to the end, and the fast reader does not say so
        try:
            table = _read(data, strings)
            table.validate(full=True)
        except pa.ArrowException:
            return _parse_rows(data, name, strings, header, before())
        if not any(pa.types.is_binary(field.type) for field in table.schema):  # binary: not UTF-8
            return Rows.whole(table)
    return _parse_rows(data, name, strings, header, before())


def lines(data: bytes) -> npt.NDArray[np.int64]:
    """1-based line on which each row begins."""
    return np.array([start + 1 for start, _, row, _ in _rows(data) if row is None or row], dtype=np.int64)[1:]


def _read(data: bytes, strings: Sequence[str]) -> pa.Table:
    """The table; the columns `strings` are never taken for numbers or dates."""
    return read_in_blocks(
        lambda size: pa.csv.read_csv(
            io.BytesIO(data),
            read_options=pa.csv.ReadOptions(block_size=size),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(strings, pa.string())),
        ),
        len(data),
    )


def _header(data: bytes, name: str) -> list[str]:
    for _, _, row, fault in _rows(data[: 1 << 20]):  # no header is longer
        if row is None or fault:
            raise InputError(f"{name}:1: broken header line ({fault}); mend it")
        if row:
            twice = [column for column in row if row.count(column) > 1]
            if twice:
                raise InputError(f"{name}:1: the header names column {twice[0]!r} twice; rename one")
            return row
    raise InputError(f"{name}: the file is empty; take it out or fill it")


def _parse_rows(data: bytes, name: str, strings: Sequence[str], header: list[str], before: int) -> Rows:
    """What `parse` gives, row by row: bad rows are taken out of the bytes, and the rest read fast."""
    raw = list(io.StringIO(data.decode("utf-8", "surrogateescape"), newline=""))
    kept, good, bad, number = [], [], [], -2  # the header has number -1
    for start, stop, row, fault in _rows(data):
        if row is not None and not row:
            continue
        number += 1
        line = before + start + 1
        if row is None:
            if "unexpected end" in fault:
                raise InputError(f"{name}:{line}: a quote is opened here and never closed; mend the file")
            bad.append(Bad(name, line, "broken_csv", f"broken CSV ({fault}) in {show(''.join(raw[start:stop]))}"))
        elif fault:
            bad.append(Bad(name, line, "invalid_utf8", fault))
        elif len(row) != len(header):
            detail = f"{len(row)} fields where the header has {len(header)}, in {show(''.join(raw[start:stop]))}"
            bad.append(Bad(name, line, "ragged", detail))
        else:
            kept.append("".join(raw[start:stop]))
            good += [number] if number >= 0 else []
    table = _read("".join(kept).encode(), strings)
    return Rows(table, np.array(good, dtype=np.int64), number + 1, bad)


def _rows(data: bytes) -> Iterator[tuple[int, int, list[str] | None, str]]:
    """Of each row: the line before it, its last line, its fields (None where broken, [] where blank), what is wrong."""
    is_ascii = data.isascii()
    with _any_field_size():
        reader = csv.reader(io.StringIO(data.decode("utf-8", "surrogateescape"), newline=""), strict=True)
        while True:
            start = reader.line_num
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield start, reader.line_num, None, str(error)
                continue
            strange = "" if is_ascii else next((c for c in "".join(row) if "\udc80" <= c <= "\udcff"), "")
            fault = f"invalid UTF-8 (byte {ord(strange) - 0xDC00:#04x})" if strange else ""
            yield start, reader.line_num, row, fault


@contextmanager
def _any_field_size() -> Iterator[None]:
    """Lifts the limit of 128 KB a field, which documents may pass, and puts it back: it is the whole process's."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)
