"""Two text files, a sentence a line, of which line n of one is the translation of line n of the other: `corpus.en` and `corpus.de`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from dsel.data.format import txt
from dsel.data.format.rows import Rows
from dsel.data.text import Columns
from dsel.error import InputError


def other_side(path: Path, columns: Columns) -> Path:
    """Where the translation of `path` stands: the same name with the other language's ending."""
    endings = path.suffixes[-1:] if path.suffix == f".{columns.src}" else path.suffixes[-2:]  # compressed: two
    stem = path.name.removesuffix("".join(endings))
    return path.with_name("".join([stem, f".{columns.tgt}", *endings[1:]]))


def parse(data: bytes, other: bytes, path: Path, columns: Columns) -> Rows:
    """Both sides as columns, under their names. Errors: more lines on one side."""
    assert columns.src is not None
    assert columns.tgt is not None
    sides = ((data, path, columns.src), (other, other_side(path, columns), columns.tgt))
    left, right = (txt.parse(content, str(place), replace(columns, text=name, src=None, tgt=None)) for content, place, name in sides)
    if left.num_read != right.num_read:
        raise InputError(
            f"{path}: {left.num_read} lines, and {sides[1][1]}: {right.num_read}; line n of one must be the translation of line n of the "
            "other: give both as many"
        )
    numbers = np.intersect1d(left.numbers, right.numbers)
    table = left.table.take(np.searchsorted(left.numbers, numbers))
    translated = right.table[columns.tgt].take(np.searchsorted(right.numbers, numbers))
    return Rows(table.append_column(columns.tgt, translated), numbers, left.num_read, [*left.bad, *right.bad])
