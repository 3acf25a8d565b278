"""Documents from the user's own files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dsel.corpus import Documents
from dsel.data.format.file import find_files, hash_sides, parse, places, read_bytes
from dsel.data.noise import check_noise, plant_noise
from dsel.data.pairs import count_same
from dsel.data.text import Columns, check_limits, check_options, without
from dsel.error import InputError
from dsel.pool import DOMAIN, ID, ROW, SRC, TGT
from dsel.sieve import Bad, OnBadRow, Sieve

FILE = "dsel_file"


@dataclass(frozen=True)
class Files:
    """Reads parquet, jsonl, csv, tsv and txt (a document a line), plain or .gz or .zst.

    With `src_column` and `tgt_column` a row is a pair of sentences: columns of these names (tsv without a header: the first two),
    catalogues of gettext (.po), or text files with these endings that are aligned line by line: `source=corpus.en`, whose other side
    is `corpus.de`, with `src_column: en` and `tgt_column: de`. Pairs with the same text on both sides are counted.
    `noise` plants shares of the source by name, to see what finds them: misaligned, copy, truncated, scrambled.

    `source` and `target` are each a path, a glob, a folder, or a list of those. All columns are kept; text, id and
    domain come under these names too. `dsel_row` is a row's 0-based number in the source as a whole, files in
    sorted order; where there are several, `dsel_file` names the row's. With `on_bad_row: skip` unreadable and
    empty rows are dropped, counted and listed; a text under `min_characters` characters is dropped and counted
    either way. Of more than `max_documents` (source) or `max_target` (target) a random part is taken, drawn by `seed`;
    models see the first `max_characters` of a text, and what is written out is whole.
    """

    source: str | Sequence[str]
    target: str | Sequence[str]
    text_column: str = "text"
    domain_column: str = "domain"
    id_column: str = "id"
    src_column: str | None = None
    tgt_column: str | None = None
    noise: Mapping[str, float] | None = None
    on_bad_row: OnBadRow = "fail"
    min_characters: int = 1
    max_characters: int | None = None
    max_documents: int | None = None
    max_target: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_options(self.on_bad_row, self.min_characters)
        check_limits(vars(self))
        self._columns()  # checks the names of the sides
        check_noise(self.noise or {})
        if self.noise and self.src_column is None:
            raise InputError("data.noise: is planted into pairs; set data.src_column= and data.tgt_column=")

    def identity(self) -> dict[str, Any]:
        """Content hashes of the files by side, and the options. Errors: as `read` where files are not found."""
        options = {key: value for key, value in vars(self).items() if key not in ("source", "target")}
        return {**options, **hash_sides({side: self._paths(side) for side in ("source", "target")}, self._columns())}

    def read(self) -> Documents:
        """Errors: InputError for every kind of bad input, naming the file and, where it is a row, the line."""
        sieves = {side: Sieve(side, self.on_bad_row) for side in ("source", "target")}
        paths = {side: self._paths(side) for side in sieves}
        source, names = self.read_side(paths["source"], sieves["source"])
        target, _ = self.read_side(paths["target"], sieves["target"])
        if self.noise:
            source = plant_noise(source, self.noise, self.seed)
        return Documents(
            source=source,
            target=target,
            dropped={side: dict(sieve.dropped) for side, sieve in sieves.items()},
            listed=[line for sieve in sieves.values() for line in sieve.listed],
            facts={
                "files": {side: [str(p) for p in paths[side]] for side in sieves},
                "columns": self._columns().stored(names, source) | ({FILE: FILE} if FILE in source.column_names else {}),
                **({"same_on_both_sides": count_same(source[SRC], source[TGT])} if self.src_column else {}),
            },
        )

    def _columns(self) -> Columns:
        return Columns(self.text_column, self.id_column, self.domain_column, self.src_column, self.tgt_column)

    def _paths(self, side: str) -> list[Path]:
        return find_files(getattr(self, side), side, self.src_column)

    def read_side(self, paths: list[Path], sieve: Sieve) -> tuple[pa.Table, list[str]]:
        """The sieve's side: its documents, and the names of the columns in the files."""
        columns, names = self._columns(), dict[str, None]()
        tables, start = [], 0
        for path in paths:
            table, num_read, found = self._read_file(path, columns, sieve)
            names |= dict.fromkeys(found)
            at = table.column_names.index(ROW)
            table = table.set_column(at, ROW, pa.array(start + table[ROW].to_numpy(), pa.int64()))
            if len(paths) > 1:
                table = table.append_column(FILE, pa.array([str(path)]).take(pa.array(np.zeros(table.num_rows, np.int64))))
            tables.append(table)
            start += num_read
        table = unify(_agree(tables, columns), [str(p) for p in paths])
        given = str(getattr(self, sieve.side))
        if sieve.side == "source":
            columns.require(table.column_names, f"source={given}")
        limit = self.max_documents if sieve.side == "source" else self.max_target
        table = sieve.thin(sieve.drop_short(table, self.min_characters), limit, self.seed)
        return sieve.finish(columns.cut(table, self.max_characters), given), list(names)

    def _read_file(self, path: Path, columns: Columns, sieve: Sieve) -> tuple[pa.Table, int, list[str]]:
        """The file's documents, `dsel_row` counted from the file's beginning, the number of rows read, and the file's columns."""
        data = read_bytes(path)
        rows = parse(data, path, columns)
        if rows.num_read == 0:
            raise InputError(f"{path}: the file is empty; take it out or fill it")
        sieve.drop(rows.bad)
        table = columns.expose(rows.table, str(path))
        empty = columns.empty_rows(table)
        if len(empty):
            detail = f"{' or '.join(map(repr, columns.texts))} is empty"
            numbers, in_line = places(data, path, rows.numbers[empty])
            sieve.drop([Bad(str(path), n, "empty", detail, in_line) for n in numbers])
        table = without(table.append_column(ROW, pa.array(rows.numbers)), empty)
        return table, rows.num_read, rows.table.column_names


def _agree(tables: list[pa.Table], columns: Columns) -> list[pa.Table]:
    """The tables; where ids or domains are strings in one file and not in another, they are strings in all."""
    for given, name in ((columns.id, ID), (columns.domain, DOMAIN)):
        kept = f"{name}_original"
        if given == name and any(name in t.column_names and kept not in t.column_names for t in tables):
            tables = [t.drop_columns([kept]) if kept in t.column_names else t for t in tables]
    return tables


def unify(tables: Sequence[pa.Table], names: Sequence[str]) -> pa.Table:
    """The tables one after the other, columns by name, null where missing. Errors: types that do not go together."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        first: dict[str, tuple[pa.DataType, str]] = {}
        for table, name in zip(tables, names, strict=True):
            for field in table.schema:
                kind, where = first.setdefault(field.name, (field.type, name))
                if not _fits(kind, field.type):
                    raise InputError(
                        f"column {field.name!r} holds {kind} in {where} and {field.type} in {name}; "
                        "give it one type, or take the column out"
                    ) from error
        raise InputError(f"{', '.join(names[:2])} ...: columns that do not go together ({error})") from error


def _fits(a: pa.DataType, b: pa.DataType) -> bool:
    try:
        pa.unify_schemas([pa.schema([("x", a)]), pa.schema([("x", b)])], promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return False
    return True
