"""Tasks from the user's own files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dsel.corpus import Documents
from dsel.data.files import FILE
from dsel.data.format.file import find_files, hash_sides, parse, places, read_bytes, split_name
from dsel.data.format.rows import Rows
from dsel.data.tasks import AUTO, add_second, expose, is_blank, is_measured, make_documents, read_as_numbers, restore, set_kind
from dsel.data.text import Columns, check_limits, check_options, show, without
from dsel.error import InputError
from dsel.pool import DOMAIN, ROW, TASK, TGT
from dsel.sieve import Bad, OnBadRow, Sieve

TYPED = (".jsonl", ".json")  # formats in which a number is no string, whose parsers drop rows that have one for a text
KNOWS_NUMBERS = (*TYPED, ".parquet")


@dataclass(frozen=True)
class FileTasks:
    """Reads the tasks of one side from files; its fields are what `TaskFiles` says of its own. `columns` names questions, answers and, as
    the domain, tasks."""

    columns: Columns
    pair_column: str | None = None
    split_column: str | None = None
    split: str | None = None
    limit: int | None = None
    seed: int = 0

    def read(self, paths: Sequence[Path], sieve: Sieve) -> tuple[dict[str, pa.Table], list[str]]:
        """Tasks by name, in which `dsel_kind` says whether answers are numbers to find, and the names of the files' columns. Errors: as
        `TaskFiles`."""
        start = 0
        tasks: dict[str, pa.Table] = {}
        homes: dict[str, Path] = {}
        names: dict[str, None] = {}
        for path in paths:
            found, num_read, columns = self._read_file(path, sieve)
            names |= dict.fromkeys(columns)
            for name, table in found.items():
                if name in homes:
                    raise InputError(f"task {name}: stands in {homes[name]} and in {path}; rename one, or make one file of both")
                homes[name] = path
                table = table.set_column(table.column_names.index(ROW), ROW, pa.array(start + table[ROW].to_numpy(), pa.int64()))
                tasks[name] = table.append_column(FILE, pa.array([str(path)] * table.num_rows, pa.string())) if len(paths) > 1 else table
            start += num_read
        return tasks, list(names)

    def _read_file(self, path: Path, sieve: Sieve) -> tuple[dict[str, pa.Table], int, list[str]]:
        """The file's tasks by name, `dsel_row` counted from the file's beginning, the number of rows read, and the file's columns."""
        data, columns = read_bytes(path), self.columns
        kind, compression = split_name(path)
        rows = parse(data, path, Columns(columns.texts[0]) if kind in TYPED else columns)
        if rows.num_read == 0:
            raise InputError(f"{path}: the file is empty; take it out or fill it")
        sieve.drop(rows.bad)
        rows = self._of_split(rows, path, sieve)
        table = expose(rows.table, columns, str(path))
        named = None if columns.domain not in rows.table.column_names or pc.all(is_blank(table[DOMAIN])).as_py() else table[DOMAIN]
        empty = columns.empty_rows(table)
        faults = {" or ".join(map(repr, columns.texts)): empty}
        if named is not None:
            faults[f"{columns.domain!r}"] = np.setdiff1d(np.flatnonzero(is_blank(named).to_numpy()), empty)
        for what, at in faults.items():
            numbers, in_line = places(data, path, rows.numbers[at])
            sieve.drop([Bad(str(path), n, "empty", f"{what} is empty", in_line) for n in numbers])
        table = without(table.append_column(ROW, pa.array(rows.numbers)), np.concatenate(list(faults.values())))
        if self.pair_column is not None:
            table = add_second(table, columns, self.pair_column, str(path))
        name = (Path(path.stem) if compression else path).stem
        parts = {name: table} if named is None else _by_name(table) or {name: table}
        answers = rows.table.schema.field(columns.texts[-1]).type if kind in KNOWS_NUMBERS else None
        given = [each for each in rows.table.column_names if not each.startswith("dsel_")]
        return {each: self._finish(part, answers, given, sieve) for each, part in parts.items()}, rows.num_read, given

    def _finish(self, table: pa.Table, answers: pa.DataType | None, given: Sequence[str], sieve: Sieve) -> pa.Table:
        """As much as is wanted of the rows of a task whose answers are of a type, or of none where the format knows strings only."""
        is_regression = read_as_numbers(table[TGT]) if answers is None else is_measured(answers)
        return set_kind(restore(sieve.thin(table, self.limit, self.seed), given), is_regression)

    def _of_split(self, rows: Rows, path: Path, sieve: Sieve) -> Rows:
        """The rows of the split that is asked for; the others are counted. Errors: there is no such column, or no such row."""
        split = self.split
        if self.split_column is None or split is None:
            return rows
        if self.split_column not in rows.table.column_names:
            known = ", ".join(rows.table.column_names)
            raise InputError(f"{path}: no column {self.split_column!r} (columns: {known}); set data.split_column= to one of them, or null")
        values = rows.table[self.split_column]
        if pa.types.is_nested(values.type):
            raise InputError(
                f"{path}: column {self.split_column!r} holds {values.type}, not a plain value; set data.split_column= to another"
            )
        values = values.cast(pa.string())
        kept = np.flatnonzero(pc.fill_null(pc.equal(values, split), False).to_numpy())
        if not len(kept):
            key = "split" if sieve.side == "source" else "target_split"
            seen = ", ".join(show(value) for value in values.unique().to_pylist()[:5])
            raise InputError(f"{path}: no row with {self.split_column!r} {split!r} (seen: {seen}); set data.{key}=, or take the file out")
        sieve.dropped["other_split"] += len(values) - len(kept)
        return replace(rows, table=rows.table.take(pa.array(kept)), numbers=rows.numbers[kept])


def require(wanted: Mapping[str, tuple[str | None, str | None]], names: Collection[str], where: str) -> None:
    """Errors: a column that the user named and no file has; `wanted` are columns by option, and what they are unless the user says so."""
    for option, (column, usual) in wanted.items():
        if column not in (usual, None) and column not in names:
            raise InputError(f"{where}: no column {column!r} (columns: {', '.join(names)}); set data.{option}= to one of them")


@dataclass(frozen=True)
class TaskFiles:
    """Questions `src_column` and answers `tgt_column` in files such as `Files` reads, `source` the auxiliary tasks', `target` the target's.

    Rows with a `task_column` belong to the task that it names, the rows of other files to one named as the file, without its endings.
    Answers may be numbers; `regression` names the tasks in which they are not labels but to be found (auto: those whose answers are
    floating-point numbers, or in formats of strings are numbers all, and not all whole); `dsel_kind` says so. `pair_column` is a second
    text of the question, put after it on a line of its own, and kept as `dsel_second`. With `split_column` only rows are read that have
    `split` there, of the target `target_split` (None: all); the others are counted. Of more than `max_per_task` rows of an auxiliary
    task, or `max_target` of a target task, a random part is taken, drawn by `seed`. Bad rows, `dsel_row` and `dsel_file` as in `Files`.
    """

    source: str | Sequence[str]
    target: str | Sequence[str]
    src_column: str = "src"
    tgt_column: str = "tgt"
    pair_column: str | None = None
    task_column: str = TASK
    split_column: str | None = None
    split: str = "train"
    target_split: str | None = None
    max_per_task: int | None = None
    max_target: int | None = None
    regression: str | Sequence[str] = AUTO
    on_bad_row: OnBadRow = "fail"
    seed: int = 0

    def __post_init__(self) -> None:
        check_options(self.on_bad_row, 0)
        check_limits(vars(self))
        if self.src_column == self.tgt_column:
            raise InputError(f"data.tgt_column={self.tgt_column}: is data.src_column as well; name the column of the answers")
        if self.target_split is not None and self.split_column is None:
            raise InputError(f"data.target_split={self.target_split}: in which column? set data.split_column=")

    def identity(self) -> dict[str, Any]:
        """Content hashes of the files by side, and the options. Errors: as `read` where files are not found."""
        options = {key: value for key, value in vars(self).items() if key not in ("source", "target")}
        return {**options, **hash_sides({side: self._paths(side) for side in ("source", "target")}, self._columns())}

    def read(self) -> Documents:
        """Errors: InputError for every kind of bad input, naming the file and, where it is a row, the line; a task in two files."""
        sieves = {side: Sieve(side, self.on_bad_row) for side in ("source", "target")}
        sides = {side: self._read_side(sieve) for side, sieve in sieves.items()}
        documents = make_documents(
            sides["source"][0],
            sides["target"][0],
            dropped={side: dict(sieve.dropped) for side, sieve in sieves.items()},
            listed=[line for sieve in sieves.values() for line in sieve.listed],
            facts={"files": {side: [str(p) for p in self._paths(side)] for side in sieves}},
            regression=self.regression,
        )
        given, stored = sides["source"][1], documents.source.column_names
        moved = {name: original for name in given if (original := f"{name}_original") in stored and original not in given}
        columns = {TASK: TASK} | dict(zip(given, given, strict=True)) | moved | ({FILE: FILE} if FILE in stored else {})
        return replace(documents, facts={**documents.facts, "columns": columns})

    def _columns(self) -> Columns:
        return Columns(domain=self.task_column, src=self.src_column, tgt=self.tgt_column)

    def _paths(self, side: str) -> list[Path]:
        return find_files(getattr(self, side), side, self.src_column)

    def _read_side(self, sieve: Sieve) -> tuple[dict[str, pa.Table], list[str]]:
        """The sieve's side: its tasks by name, and the names of the columns in the files."""
        is_source = sieve.side == "source"
        reader = FileTasks(
            self._columns(),
            self.pair_column,
            self.split_column,
            self.split if is_source else self.target_split,
            self.max_per_task if is_source else self.max_target,
            self.seed,
        )
        tasks, names = reader.read(self._paths(sieve.side), sieve)
        if is_source:
            require({"pair_column": (self.pair_column, None), "task_column": (self.task_column, TASK)}, names, f"source={self.source}")
        return tasks, names


def _by_name(table: pa.Table) -> dict[str, pa.Table]:
    """The rows of each task that column `domain` names, in order."""
    names, numbers = np.unique(table[DOMAIN].to_numpy().astype(str), return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    parts = np.split(order, np.searchsorted(numbers[order], np.arange(1, len(names))))
    return {str(name): table.take(pa.array(rows)) for name, rows in zip(names, parts, strict=False)}
