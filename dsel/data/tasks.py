"""Tasks: tables of questions and answers, each with a name, as the documents of a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dsel.corpus import Documents
from dsel.data.files import unify
from dsel.data.pairs import join_columns
from dsel.data.text import Columns, show
from dsel.error import InputError
from dsel.pool import CLASSES, DOMAIN, ID, KIND, NUMBERS, ROW, SECOND, SRC, TASK, TEXT, TGT

ANSWER = "(answer as text)"
NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"
AUTO, NONE = "auto", "none"  # which tasks are regressions: as the columns look, or no task
Tasks = Mapping[str, pa.Table]
"""Tables with string columns `src` (question) and `tgt` (answer) by the task's name."""


def make_documents(
    auxiliary: Tasks,
    target: Tasks,
    *,
    dropped: Mapping[str, Mapping[str, int]] | None = None,
    listed: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
    regression: str | Sequence[str] = AUTO,
    apart: bool = False,
) -> Documents:
    """The auxiliary tasks as the source, the target's as the target, in sorted order, with the columns that units of tasks have.

    Columns of the user's in their way are kept under `<name>_original`. `facts` gets `tasks`, the number of rows by side and task. Errors:
    no task on a side, a task without rows or with one and the same answer in all, one on both sides, columns that do not go together.
    `regression` names the tasks whose answers are numbers (`AUTO`: they say so already); `apart`: tasks are trained on one by one, and
    there may be none but targets. Errors: it names a task that there is not.
    """
    sides = {"source": auxiliary, "target": target}
    for side, tasks in sides.items():
        if not tasks and not (apart and side == "source"):
            raise InputError(f"{side}: no {'auxiliary' if side == 'source' else 'target'} task (tasks: none); give data with one at least")
        for name in sorted(tasks):
            _check(name, tasks[name])
    if both := sorted(set(auxiliary) & set(target)):
        rows = f"{auxiliary[both[0]].num_rows} and {target[both[0]].num_rows} rows"
        raise InputError(f"task {both[0]}: a target that is also an auxiliary task ({rows}); take it out of one of them, or rename one")
    counts = {side: {name: tasks[name].num_rows for name in sorted(tasks)} for side, tasks in sides.items()}
    tables = {side: _stack(tasks) for side, tasks in name_kinds(sides, regression).items() if tasks}
    return Documents(
        tables.get("source", tables["target"].schema.empty_table()),
        tables["target"],
        dropped=dropped or {},
        listed=listed,
        facts={**(facts or {}), "tasks": counts},
        in_tasks=True,
        apart=apart,
        needs_source=bool(auxiliary),
    )


def name_kinds(sides: Mapping[str, Tasks], regression: str | Sequence[str]) -> Mapping[str, Tasks]:
    """The tasks of each side, those that `regression` names (a name, several, `NONE`) with answers of kind NUMBERS, the others of CLASSES;
    as they are where it is `AUTO`. Errors: it names a task that there is not."""
    if regression == AUTO:
        return sides
    named = ([] if regression == NONE else [regression]) if isinstance(regression, str) else list(regression)
    known = sorted({name for tasks in sides.values() for name in tasks})
    if wrong := [name for name in named if name not in known]:
        raise InputError(f"data.regression={wrong[0]}: no such task (tasks: {', '.join(known)}); name some of them, or set it to auto")
    return {side: {name: set_kind(table, name in named) for name, table in tasks.items()} for side, tasks in sides.items()}


def set_kind(table: pa.Table, is_regression: bool) -> pa.Table:
    """The task's rows, which say in column `dsel_kind` whether their answers are numbers to find or classes."""
    column = pa.chunked_array([pa.array([NUMBERS if is_regression else CLASSES] * table.num_rows, pa.string())])
    return table.drop_columns([KIND] if KIND in table.column_names else []).append_column(KIND, column)


def put(table: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
    """The table with `column` under `name`; another of that name is kept under `<name>_original`, unless that is taken."""
    if name not in table.column_names:
        return table.append_column(name, column)
    if f"{name}_original" not in table.column_names:
        table = table.append_column(f"{name}_original", table[name])
    return table.set_column(table.column_names.index(name), name, column)


def expose(table: pa.Table, columns: Columns, where: str) -> pa.Table:
    """As `columns.expose`, for whose answers numbers and truth values do as well: labels. What is not a number (NaN) is no answer."""
    given = columns.tgt
    if given is None or not {*columns.texts} <= {*table.column_names} or not _is_label(table.schema.field(given).type):
        return columns.expose(table, where)
    answers = table[given]
    if pa.types.is_floating(answers.type):
        answers = pc.if_else(pc.is_nan(answers.cast(pa.float32()) if pa.types.is_float16(answers.type) else answers), None, answers)
    table = table.append_column(ANSWER, answers.cast(pa.string()))
    return replace(columns, tgt=ANSWER).expose(table, where).drop_columns([ANSWER])


def is_measured(kind: pa.DataType) -> bool:
    """Whether answers of this type are numbers with a fraction, and no labels."""
    return bool(pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def read_as_numbers(answers: pa.ChunkedArray) -> bool:
    """Whether strings (row,) are numbers all, and one has a point or an exponent at least."""
    all_are = pc.all(pc.match_substring_regex(answers, NUMBER)).as_py()
    return bool(all_are and pc.any(pc.match_substring_regex(answers, "[.eE]")).as_py())


def add_second(table: pa.Table, columns: Columns, pair: str, where: str) -> pa.Table:
    """What `expose` made, with what stands in column `pair` after the questions, on a line of its own, and in `dsel_second` (null where
    nothing does). Errors: it is no plain value."""
    src = table[SRC]
    if pair in table.column_names:
        try:
            second = table[pair].cast(pa.string())
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            raise InputError(f"{where}: column {pair!r} holds {table[pair].type}, not strings; set data.pair_column= to another") from error
        second = pc.if_else(is_blank(second), None, second)
        src = pc.coalesce(pc.binary_join_element_wise(src, second, "\n"), src)
        table = table.append_column(SECOND, second)
    table = put(table, SRC, src) if columns.src == SRC else table.set_column(table.column_names.index(SRC), SRC, src)
    return table.set_column(table.column_names.index(TEXT), TEXT, join_columns(table[SRC], table[TGT]))


def is_blank(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which strings are null or white space only (row,)."""
    return pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True)


def restore(table: pa.Table, given: Collection[str]) -> pa.Table:
    """What `expose` made of columns `given`, with these under their own names but for those in the way of `src` and `tgt`."""
    for name in (TEXT, ID, DOMAIN):
        original = f"{name}_original"
        if original in table.column_names and original not in given:
            table = table.drop_columns([name])
            table = table.rename_columns([name if each == original else each for each in table.column_names])
        elif name in table.column_names and name not in given:
            table = table.drop_columns([name])
    return table


def _is_label(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind) or is_measured(kind))


def _check(name: str, table: pa.Table) -> None:
    """Errors: a task that teaches nothing."""
    if table.num_rows == 0:
        raise InputError(f"task {name}: has 0 rows; take the task out, or give it some")
    if table.num_rows > 1 and len(answers := table[TGT].unique()) == 1:
        raise InputError(
            f"task {name}: all of its {table.num_rows} rows have the answer {show(answers[0].as_py())} (one class): nothing "
            "to learn; take the task out, or give it rows with other answers"
        )


def _stack(tasks: Tasks) -> pa.Table:
    """All tasks' rows with the columns text, task, domain, id and `dsel_row`."""
    names = sorted(tasks)
    tables = []
    for name in names:
        table = tasks[name]
        if ROW not in table.column_names:
            table = table.append_column(ROW, pa.array(np.arange(table.num_rows, dtype=np.int64)))
        same = pa.chunked_array([pa.array([name] * table.num_rows, pa.string())])
        ids = pa.chunked_array([pa.array([f"{name}-{row}" for row in table[ROW].to_pylist()], pa.string())])
        for key, column in ((TEXT, join_columns(table[SRC], table[TGT])), (TASK, same), (DOMAIN, same), (ID, ids)):
            table = put(table, key, column)
        tables.append(table)
    return unify(_agree(tables), [f"task {name}" for name in names])


def _agree(tables: list[pa.Table]) -> list[pa.Table]:
    """The tables; where the user's ids, domains or tasks are strings in one task and not in another, they are strings in all."""
    for name in (f"{key}_original" for key in (ID, DOMAIN, TASK)):
        having = [name in table.column_names for table in tables]
        if len({table.schema.field(name).type for table, has in zip(tables, having, strict=True) if has}) > 1:
            tables = [
                table.set_column(table.column_names.index(name), name, table[name].cast(pa.string())) if has else table
                for table, has in zip(tables, having, strict=True)
            ]
    return tables
