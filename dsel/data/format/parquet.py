"""Parquet. Its rows have no lines; messages count them from 0, as `dsel_row` does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from dsel.data.format.rows import Before, Rows
from dsel.data.text import Columns
from dsel.error import InputError
from dsel.sieve import Bad


def parse(data: bytes, name: str, columns: Columns, before: Before = int) -> Rows:
    """The rows of `data`. Errors: not Parquet, truncated, two columns of a name, broken strings in nested ones."""
    with naming(name):
        table = pa.parquet.read_table(pa.BufferReader(data), page_checksum_verification=True)
    return check(table, name, before())


@contextmanager
def naming(name: str, row: int | None = None) -> Iterator[None]:
    """Errors of reading, with the file's name, and the row from which on was read."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        place = "" if row is None else f" from row {row} on"
        raise InputError(
            f"{name}: not a whole Parquet file{place} ({str(error).splitlines()[0]}); write it again, or take it out"
        ) from error


def check(table: pa.Table, name: str, first: int = 0) -> Rows:
    """The rows of `table`, whose first has number `first` in what is said of bad ones."""
    twice = [column for column in table.column_names if table.column_names.count(column) > 1]
    if twice:
        raise InputError(f"{name}: has two columns {twice[0]!r}; rename one")
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        return _parse_strings(table, name, str(error), first)
    return Rows.whole(table)


def _parse_strings(table: pa.Table, name: str, message: str, first: int) -> Rows:
    """The rows whose string columns hold UTF-8, and the others."""
    faults: dict[int, str] = {}
    for field in table.schema:
        if not (pa.types.is_string(field.type) or pa.types.is_large_string(field.type)):
            continue
        raw = table[field.name].cast(pa.large_binary())
        for number, value in enumerate(raw.to_pylist()):
            try:
                (value or b"").decode()
            except UnicodeDecodeError as error:
                faults.setdefault(number, f"invalid UTF-8 in column {field.name!r} (byte {value[error.start]:#04x} at {error.start})")
    if not faults:
        raise InputError(f"{name}: broken Parquet content from row {first} on ({message.splitlines()[0]}); write it again")
    good = np.array([i for i in range(table.num_rows) if i not in faults], dtype=np.int64)
    bad = [Bad(name, first + number, "invalid_utf8", detail, in_line=False) for number, detail in sorted(faults.items())]
    return Rows(table.take(pa.array(good)), good, table.num_rows, bad)
