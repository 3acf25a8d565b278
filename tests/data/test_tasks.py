"""Tasks become the documents of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from dsel.corpus import Split, load, prepare
from dsel.data.tasks import add_second, expose, make_documents, put, read_as_numbers, restore, set_kind
from dsel.data.text import Columns
from dsel.error import InputError


def task(count: int, answers: str = "ab", name: str = "", **more: Any) -> pa.Table:
    rows = [{"src": f"question {name} {i}", "tgt": answers[i % len(answers)]} for i in range(count)]
    table = pa.table({side: pa.array([row[side] for row in rows], pa.string()) for side in ("src", "tgt")})
    for key, column in more.items():
        table = table.append_column(key, pa.array(column))
    return table


TARGET = {"t": task(12, name="t")}


def test_columns_and_order() -> None:
    docs = make_documents({"b": task(2, name="b"), "a": task(3, name="a")}, TARGET, facts={"x": 1}, listed=["y"])
    rows = docs.source.to_pylist()
    assert [row["id"] for row in rows] == ["a-0", "a-1", "a-2", "b-0", "b-1"]
    assert [row["task"] for row in rows] == [row["domain"] for row in rows] == list("aaabb")
    assert all(row["text"] == f"{row['src']}\t{row['tgt']}" for row in rows)
    assert docs.source["dsel_row"].to_pylist() == [0, 1, 2, 0, 1]
    assert docs.source.schema.field("dsel_row").type == pa.int64()
    assert docs.in_tasks
    assert docs.target["task"].to_pylist() == ["t"] * 12
    assert docs.facts == {"x": 1, "tasks": {"source": {"a": 3, "b": 2}, "target": {"t": 12}}}
    assert docs.listed == ["y"]


def test_what_the_user_gave_is_kept() -> None:
    a = task(2, name="a", id=[7, 8], task=["x", "y"], text=["one", "two"], dsel_row=pa.array([4, 9], pa.int64()), extra=[1, 2])
    b = task(2, name="b", id=["p", "q"], dsel_noise=["wrong", None])
    rows = make_documents({"a": a, "b": b}, TARGET).source.to_pylist()
    assert [row["id"] for row in rows] == ["a-4", "a-9", "b-0", "b-1"]
    assert [row["id_original"] for row in rows] == ["7", "8", "p", "q"]  # numbers in one, strings in the other
    assert [row["task_original"] for row in rows] == ["x", "y", None, None]
    assert [row["text_original"] for row in rows] == ["one", "two", None, None]
    assert [row["extra"] for row in rows] == [1, 2, None, None]
    assert [row["dsel_noise"] for row in rows] == [None, None, "wrong", None]


def test_goes_through_prepare(tmp_path: Path) -> None:
    docs = make_documents({"a": task(9, name="a"), "b": task(4, name="b")}, TARGET)
    record = prepare(docs, Split(), tmp_path)
    assert record["parts"]["source"]["documents"] == 13
    assert not record["dropped"]["source"]
    with pytest.raises(InputError, match="task b: none of its rows is left"):
        prepare(make_documents({"a": task(9), "b": task(4)}, TARGET), Split(), tmp_path)


@pytest.mark.parametrize(
    ("auxiliary", "target", "message"),
    [
        ({}, TARGET, r"^source: no auxiliary task \(tasks: none\); give data"),
        ({"a": task(2)}, {}, r"^target: no target task"),
        ({"a": task(2), "b": task(0)}, TARGET, r"^task b: has 0 rows; take the task out"),
        ({"a": task(2), "b": task(3, "x")}, TARGET, r"^task b: all of its 3 rows have the answer 'x' \(one class\).*take the task out"),
        ({"a": task(2)}, {"t": task(3, "x")}, r"^task t: all of its 3 rows"),
        ({"a": task(2), "t": task(3)}, TARGET, r"^task t: a target that is also an auxiliary task \(3 and 12 rows\); take it out"),
        (
            {"a": task(2, x=[1, 2]), "b": task(2, x=["1", "2"])},
            TARGET,
            r"column 'x' holds int64 in task a and string in task b; give it one type",
        ),
    ],
)
def test_tasks_that_cannot_be(auxiliary: dict[str, pa.Table], target: dict[str, pa.Table], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        make_documents(auxiliary, target)
    assert "\n" not in str(error.value)


def test_a_single_row_is_a_task() -> None:
    assert make_documents({"a": task(1)}, TARGET).source.num_rows == 1


def test_put_keeps_what_stands_there_once() -> None:
    table = put(put(pa.table({"x": [1]}), "x", pa.chunked_array([[2]])), "x", pa.chunked_array([[3]]))
    assert table.to_pylist() == [{"x": 3, "x_original": 1}]


@pytest.mark.parametrize(
    ("labels", "answers"),
    [
        ([3, 10], ["3", "10"]),
        ([True, False], ["true", "false"]),
        (["a", "b"], ["a", "b"]),
        ([3, None], ["3", None]),
        ([0.1, 2.0], ["0.1", "2"]),
        ([1e-7, None], ["1e-7", None]),
    ],
)
@pytest.mark.parametrize("name", ["tgt", "label"])
def test_labels_are_answers(labels: list[Any], answers: list[str], name: str) -> None:
    given = pa.table({"src": ["one", "two"], name: labels})
    columns = Columns(src="src", tgt=name)
    table = expose(given, columns, "x")
    assert table["tgt"].to_pylist() == answers
    assert columns.empty_rows(table).tolist() == [i for i, answer in enumerate(answers) if answer is None]
    assert restore(table, given.column_names)[name if name != "tgt" or labels == answers else "tgt_original"].to_pylist() == labels


def test_what_is_no_label_is_no_answer() -> None:
    for sides in (("src", "tgt"), ("text", "label")):
        with pytest.raises(InputError, match=rf"x: column 'label' holds .*set data.{sides[1]}_column="):
            expose(pa.table({"src": ["a", "b"], "label": [[1], [2]]}), Columns(src="src", tgt="label", sides=sides), "x")
        with pytest.raises(InputError, match=rf"x: no column 'q' \(columns: src, label\); set data.{sides[0]}_column="):
            expose(pa.table({"src": ["a"], "label": [1]}), Columns(src="q", tgt="label", sides=sides), "x")


@settings(max_examples=50)
@drawn(st.lists(st.floats(allow_nan=True, allow_infinity=False), min_size=1), st.sampled_from([pa.float64(), pa.float32(), pa.float16()]))
def test_no_digit_of_a_number_is_lost(values: list[float], kind: pa.DataType) -> None:
    given = pa.array(values, pa.float64()).cast(kind, safe=False)
    answers = expose(pa.table({"src": ["q"] * len(values), "tgt": given}), Columns(src="src", tgt="tgt"), "x")["tgt"].to_pylist()
    for value, answer in zip(given.to_pylist(), answers, strict=True):
        assert (answer is None) == (value != value)
        assert answer is None or pa.scalar(float(answer), pa.float64()).cast(kind, safe=False).as_py() == value


@pytest.mark.parametrize(
    ("answers", "numbers"),
    [
        (["1.5", "2"], True), (["1e3", "-2"], True), ([" .5", "+3."], True),
        (["1", "2"], False), (["1.5", "b"], False), (["nan", "1.5"], False), (["1.5.2"], False), (["e"], False), ([], False),
    ],
)  # fmt: skip
def test_strings_that_are_numbers(answers: list[str], numbers: bool) -> None:
    assert read_as_numbers(pa.chunked_array([pa.array(answers, pa.string())])) is numbers


def test_which_tasks_are_regressions() -> None:
    auxiliary = {"a": set_kind(task(2, name="a"), True), "b": set_kind(task(2, name="b"), False)}
    target = {"t": set_kind(TARGET["t"], True)}

    def kinds(regression: str | list[str]) -> dict[str, str]:
        docs = make_documents(auxiliary, target, regression=regression)
        rows = docs.source.to_pylist() + docs.target.to_pylist()
        assert all(len({row["dsel_kind"] for row in rows if row["task"] == name}) == 1 for name in "abt")
        return {row["task"]: row["dsel_kind"] for row in rows}

    assert kinds("auto") == {"a": "numbers", "b": "classes", "t": "numbers"}
    assert kinds("none") == kinds([]) == dict.fromkeys("abt", "classes")
    assert kinds("b") == kinds(["b"]) == {"a": "classes", "b": "numbers", "t": "classes"}
    assert kinds(["t", "b"])["t"] == "numbers"
    with pytest.raises(InputError, match=r"^data.regression=c: no such task \(tasks: a, b, t\); name some of them") as error:
        kinds(["a", "c"])
    assert "\n" not in str(error.value)


def test_tasks_apart_may_be_none_but_targets(tmp_path: Path) -> None:
    docs = make_documents({}, TARGET, apart=True)
    assert docs.apart
    assert not docs.needs_source
    assert docs.source.schema == docs.target.schema
    assert prepare(docs, Split(), tmp_path)["parts"]["source"]["documents"] == 0
    assert len(load(tmp_path).source) == 0
    assert make_documents({"a": task(2)}, TARGET, apart=True).needs_source
    with pytest.raises(InputError, match=r"^target: no target task"):
        make_documents({"a": task(2)}, {}, apart=True)


def test_second_texts() -> None:
    columns = Columns(src="a", tgt="b")
    given = pa.table({"a": ["one", "two", "three"], "b": ["x", "y", "z"], "c": ["more", " ", None]})
    table = add_second(expose(given, columns, "x"), columns, "c", "x")
    assert table["dsel_second"].to_pylist() == ["more", None, None]
    assert table["src"].to_pylist() == ["one\nmore", "two", "three"]
    assert table["text"].to_pylist() == ["one\nmore\tx", "two\ty", "three\tz"]
    assert restore(table, given.column_names).select(given.column_names).equals(given)
    with pytest.raises(InputError, match=r"^x: column 'c' holds list.*data.pair_column="):
        add_second(expose(given.set_column(2, "c", [[[1], [2], [3]]]), columns, "x"), columns, "c", "x")


def test_restore_gives_back_every_column() -> None:
    given = pa.table({"text": ["t"], "id": [5], "domain": ["d"], "tgt": ["mine"], "q": ["one"], "a": ["x"], "kind": ["k"]})
    table = restore(expose(given, Columns(src="q", tgt="a", domain="kind"), "x"), given.column_names)
    assert table.drop_columns(["tgt_original", "src", "tgt"]).to_pylist() == given.drop_columns(["tgt"]).to_pylist()
    assert table.select(["src", "tgt", "tgt_original"]).to_pylist() == [{"src": "one", "tgt": "x", "tgt_original": "mine"}]
