"""Plain text, one document a line."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dsel.data.format.rows import Before, Rows
from dsel.data.text import Columns
from dsel.sieve import Bad


def parse(data: bytes, name: str, columns: Columns, before: Before = int) -> Rows:
    """The lines of `data` as column `data.text_column`. An empty line is an empty document."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _parse_lines(data, name, columns, before())
    return Rows.whole(_table(text.removesuffix("\n"), columns))


def lines(data: bytes) -> npt.NDArray[np.int64]:
    """1-based line of each row."""
    return np.arange(1, data.count(b"\n") + 2, dtype=np.int64)


def _table(text: str, columns: Columns) -> pa.Table:
    whole = pa.array([text], pa.large_string())
    return pa.table({columns.text: pc.utf8_rtrim(pc.split_pattern(whole, "\n").flatten(), "\r")})


def _parse_lines(data: bytes, name: str, columns: Columns, before: int) -> Rows:
    """What `parse` gives, line by line."""
    rows, good, bad = data.removesuffix(b"\n").split(b"\n"), [], []
    for number, line in enumerate(rows):
        try:
            line.decode()
            good.append(number)
        except UnicodeDecodeError as error:
            detail = f"invalid UTF-8 (byte {line[error.start]:#04x} at {error.start} of the line)"
            bad.append(Bad(name, before + number + 1, "invalid_utf8", detail))
    table = _table(b"\n".join(rows[i] for i in good).decode(), columns) if good else pa.table({columns.text: pa.array([], pa.string())})
    return Rows(table, np.array(good, dtype=np.int64), len(rows), bad)
