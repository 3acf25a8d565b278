"""Tab-separated values without quotes, as parallel corpora come: a header line with the columns' names, or the two sides first."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dsel.data.format import txt
from dsel.data.format.rows import Before, Rows
from dsel.data.text import Columns, show
from dsel.error import InputError
from dsel.sieve import Bad

LINE = "line"
lines = txt.lines


def parse(data: bytes, name: str, columns: Columns, before: Before = int) -> Rows:
    """The rows of `data`. Where the first line does not name the columns, the first two are the sides. Errors: neither can be."""
    if before is not int:
        raise InputError(f"{name}: tab-separated values cannot be read in pieces; set data=files, or make it jsonl or parquet")
    rows = txt.parse(data, name, Columns(LINE))
    fields = pc.split_pattern(rows.table[LINE].combine_chunks(), "\t")
    names, num_names = _names(fields, columns, name)
    count = pc.list_value_length(fields).to_numpy(zero_copy_only=False)
    good = count >= num_names
    good[:1] &= not names  # the header is no row
    wanted = f"fields where there should be {num_names}"
    ragged = np.flatnonzero(~good[bool(names) :]) + bool(names)
    bad = [
        Bad(
            name,
            int(rows.numbers[at]) + 1,
            "ragged",
            f"{count[at]} {wanted}, in {show(fields[at].as_py())}",
        )
        for at in ragged
    ]
    kept = fields.filter(pa.array(good))
    found = {key: pc.list_element(kept, at) for at, key in enumerate(names or (columns.src, columns.tgt))}
    header = int(bool(names))
    return Rows(pa.table(found), rows.numbers[good] - header, rows.num_read - header, [*rows.bad, *bad])


def _names(fields: pa.Array, columns: Columns, name: str) -> tuple[list[str], int]:
    """The columns' names, none where the first line has none, and how many fields a row has at least."""
    first = fields[0].as_py() if len(fields) else []
    if {columns.src, columns.tgt} <= set(first) or columns.text in first:
        if len(set(first)) < len(first):
            raise InputError(f"{name}:1: the header names a column twice; rename one")
        return first, len(first)
    if columns.src is None:
        raise InputError(f"{name}:1: no column {columns.text!r} in the header; set data.text_column=, or data.src_column= and tgt_column=")
    return [], 2
