"""Translation catalogues of gettext, a pair a message. What is not translated yet is no row."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from dsel.data.format.rows import Before, Rows
from dsel.data.text import Columns
from dsel.error import InputError

FUZZY = "fuzzy"  # the translator's mark: to be looked at again


def parse(data: bytes, name: str, columns: Columns, before: Before = int) -> Rows:
    """Messages and their translations as the columns of the two sides, and whether they are marked as fuzzy. Of a plural, both forms."""
    from babel.messages.pofile import PoFileError, read_po

    if columns.src is None or columns.tgt is None:
        raise InputError(f"{name}: a catalogue holds pairs; set data.src_column=src data.tgt_column=tgt")
    try:
        catalogue = read_po(io.BytesIO(data), abort_invalid=True)
    except (PoFileError, UnicodeDecodeError, ValueError, LookupError) as error:
        raise InputError(f"{name}: is no catalogue of gettext ({error}); mend it, or take it out") from error
    found = [pair for message in catalogue if message.id for pair in _pairs(message)]
    table = {
        columns.src: pa.array([src for src, _, _ in found], pa.string()),
        columns.tgt: pa.array([tgt for _, tgt, _ in found], pa.string()),
        FUZZY: pa.array([fuzzy for _, _, fuzzy in found], pa.bool_()),
    }
    return Rows.whole(pa.table(table))


def _pairs(message: Any) -> Iterator[tuple[str, str, bool]]:
    ids = message.id if isinstance(message.id, tuple | list) else (message.id,)
    strings = message.string if isinstance(message.string, tuple | list) else (message.string,)
    for src, tgt in dict.fromkeys([(ids[0], strings[0]), (ids[-1], strings[-1])]):
        if tgt:
            yield src, tgt, bool(message.fuzzy)
