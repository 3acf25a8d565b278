"""What every source of documents asks of its rows: names of text, id and domain, and what becomes of bad rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dsel.data.pairs import join_columns
from dsel.error import InputError
from dsel.functional.hashing import text_buffers
from dsel.pool import DOMAIN, ID, SRC, TEXT, TGT

MAX_STRING_BYTES = 2**31 - 1  # what the 32-bit offsets of Arrow's `string` reach


@dataclass(frozen=True)
class Columns:
    """The user's names for the text, the id and the domain; of pairs, for the two sides, of which the text is made.

    A name with a dot is that of a field in a column: `translation.de`, as in many datasets on the Hub. `sides` is what the user's options
    call the two sides, for what is said of them: `data.src_column`.
    """

    text: str = TEXT
    id: str = ID
    domain: str = DOMAIN
    src: str | None = None
    tgt: str | None = None
    sides: tuple[str, str] = (SRC, TGT)

    def __post_init__(self) -> None:
        if (self.src is None) != (self.tgt is None):
            lacking, given = (self.sides[0], self.tgt) if self.src is None else (self.sides[1], self.src)
            raise InputError(f"data.{lacking}_column=null: one side is {given!r}; pairs need both")

    @property
    def texts(self) -> Sequence[str]:
        """The columns that must be there and hold strings."""
        return (self.text,) if self.src is None or self.tgt is None else (self.src, self.tgt)

    @property
    def options(self) -> Sequence[str]:
        """What the user's options call `texts`, without `_column`."""
        return (TEXT,) if self.src is None else self.sides

    @property
    def names(self) -> Sequence[str]:
        return *self.texts, self.id, self.domain

    def expose(self, table: pa.Table, where: str) -> pa.Table:
        """`table` with string columns `text`, and `id` and `domain` where it has them, beside the user's own columns.

        A column of the user's that stands in the way, or is no string, is kept under `<name>_original`; those that `dsel`
        wrote (`dsel_*`) go. Errors: no text column, text that is not a string, an id or domain that is not a plain value.
        """
        table = table.select([name for name in table.column_names if not name.startswith("dsel_")])
        table = _flatten(table, self.texts)
        if not set(self.texts) <= set(table.column_names):
            raise self.lacking(table.column_names, where)
        keys = (TEXT,) if self.src is None else (SRC, TGT)
        for given, option in zip(self.texts, self.options, strict=True):
            kind = table.schema.field(given).type
            if not (_is_string(kind) or pa.types.is_null(kind)):
                raise InputError(f"{where}: column {given!r} holds {kind}, not strings; set data.{option}_column= to a text column")
        for given, name in (*zip(self.texts, keys, strict=True), (self.id, ID), (self.domain, DOMAIN)):
            if given in table.column_names:
                changed = given != name or not _is_string(table.schema.field(given).type)
                table = _put(table, name, _to_string(table[given], where, given, name), changed)
        return table if self.src is None else _put(table, TEXT, join_columns(table[SRC], table[TGT]), changed=True)

    def lacking(self, names: Sequence[str], where: str) -> InputError:
        """The error for rows that have the columns `names`, and no text among them."""
        known = ", ".join(names) or "none"
        given, option = next((pair for pair in zip(self.texts, self.options, strict=True) if pair[0] not in names), (self.text, TEXT))
        return InputError(f"{where}: no column {given!r} (columns: {known}); set data.{option}_column= to one of them")

    def empty_rows(self, table: pa.Table) -> npt.NDArray[np.int64]:
        """Rows that lack their text, or one of their sides: null or white space only."""
        found = [_empty(table[name]) for name in ((TEXT,) if self.src is None else (SRC, TGT))]
        return found[0] if len(found) == 1 else np.union1d(*found)

    def cut(self, table: pa.Table, max_characters: int | None) -> pa.Table:
        """The table with texts of at most `max_characters` characters; the whole ones stay under the name that they came with."""
        if max_characters is None:
            return table
        only = self.text == TEXT and f"{TEXT}_original" not in table.column_names  # no other column holds the whole text
        return _put(table, TEXT, pc.utf8_slice_codeunits(table[TEXT], 0, max_characters), changed=only)

    def stored(self, given: Sequence[str], table: pa.Table) -> dict[str, str]:
        """Where the columns that the user gave stand in `table`, which `expose` made, by the names that they came with."""
        plain = [name for name in given if not name.startswith("dsel_")]
        moved = {name: f"{name}_original" for name in (TEXT, ID, DOMAIN) if f"{name}_original" in table.column_names}
        return {name: moved.get(name, name) if moved.get(name) not in plain else name for name in plain}

    def require(self, names: Sequence[str], where: str) -> None:
        """Errors: an id or domain column that the user named and no row has."""
        for given, name in ((self.id, ID), (self.domain, DOMAIN)):
            if given != name and given not in names:
                known = ", ".join(names)
                raise InputError(f"{where}: no column {given!r} (columns: {known}); set data.{name}_column= to one of them")


def check_options(on_bad_row: str, min_characters: int) -> None:
    """Errors: a value that the constructors of data modules do not know."""
    if on_bad_row not in ("fail", "skip"):
        raise InputError(f"data.on_bad_row={on_bad_row!r}: must be fail or skip")
    if min_characters < 0:
        raise InputError(f"data.min_characters={min_characters}: must be 0 or more")


def check_limits(options: Mapping[str, Any]) -> None:
    """Errors: a limit that leaves nothing, or cuts texts below what `min_characters` asks for."""
    for key in ("max_documents", "max_per_task", "max_target", "max_characters", "num_workers"):
        value = options.get(key)
        if value is not None and value < 1:
            raise InputError(f"data.{key}={value}: must be above 0, or null for no limit")
    longest, shortest = options.get("max_characters"), options.get("min_characters", 0)
    if longest is not None and longest < shortest:
        raise InputError(f"data.max_characters={longest}: is below data.min_characters={shortest}")


def _empty(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    rows = np.flatnonzero(_may_be_blank(column))
    if not len(rows):
        return rows
    texts = column.take(pa.array(rows))
    blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0)
    mask: npt.NDArray[np.bool_] = pc.fill_null(blank, True).to_numpy(zero_copy_only=False)
    return rows[mask]


def without(table: pa.Table, rows: npt.NDArray[np.int64]) -> pa.Table:
    """The table but for these rows; the table itself, uncopied, if there are none."""
    if not len(rows):
        return table
    kept = np.ones(table.num_rows, dtype=bool)
    kept[rows] = False
    return table.filter(pa.array(kept))


def _may_be_blank(texts: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Texts (row,) that do not begin with a visible ASCII character: a look at one byte each, where trimming looks at all."""
    found = [np.empty(0, dtype=bool)]
    for data, offsets in text_buffers(texts):
        has_any = offsets[1:] > offsets[:-1]
        first = data[np.where(has_any, offsets[:-1], 0)] if len(data) else np.zeros(len(has_any), np.uint8)
        found.append(~has_any | (first <= ord(" ")) | (first >= 0x7F))
    return np.concatenate(found)


def show(value: object, width: int = 60) -> str:
    """A value as the user would recognise it, on one line and cut."""
    text = repr(value)
    return text if len(text) <= width else text[: width - 3] + "..."


def _flatten(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The table with the fields of columns that `names` name as `column.field` as columns of their own."""
    for name in names:
        column, dot, _ = name.partition(".")
        if dot and name not in table.column_names and column in table.column_names and pa.types.is_struct(table.schema.field(column).type):
            at = table.column_names.index(column)
            parts = table.select([column]).flatten()
            for part in parts.column_names:
                table = table.add_column(at, part, parts[part])
    return table


def _is_string(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _to_string(column: pa.ChunkedArray, where: str, given: str, name: str) -> pa.ChunkedArray:
    """The column as `string`, or `large_string` where it is too large for that."""
    kind = pa.string() if column.nbytes < MAX_STRING_BYTES else pa.large_string()
    try:
        return column.cast(kind)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise InputError(f"{where}: column {given!r} holds {column.type}, not a plain value; set data.{name}_column= to another") from error


def _put(table: pa.Table, name: str, column: pa.ChunkedArray, changed: bool) -> pa.Table:
    """The table with `column` under `name`; a column of that name is kept under another where this one is not the same."""
    if name not in table.column_names:
        return table.append_column(name, column)
    at = table.column_names.index(name)
    if changed:
        table = table.append_column(f"{name}_original", table[name])
    return table.set_column(at, name, column)
