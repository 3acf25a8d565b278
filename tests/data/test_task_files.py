"""Tasks in files: which rows belong to which task, and what is said of those that belong to none."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dsel.corpus import Split, prepare
from dsel.data.files import Files
from dsel.data.task_files import TaskFiles
from dsel.error import InputError


def records(name: str, count: int = 4, **more: Any) -> list[dict[str, Any]]:
    return [{"src": f"{name} question {i}", "tgt": f"answer {i % 2}", **more} for i in range(count)]


def encode(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def put(path: Path, data: bytes | list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else encode(data))
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> TaskFiles:
    """Two auxiliary tasks, a file each, and a target."""
    put(tmp_path / "source/two.jsonl", records("two"))
    put(tmp_path / "source/one.jsonl", records("one"))
    return TaskFiles(str(tmp_path / "source"), put(tmp_path / "goal.jsonl", records("goal")))


def tasks(files: TaskFiles, side: str = "source") -> dict[str, list[int]]:
    """`dsel_row` by task."""
    found: dict[str, list[int]] = {}
    for row in getattr(files.read(), side).to_pylist():
        assert row["id"] == f"{row['task']}-{row['dsel_row']}"
        found.setdefault(row["task"], []).append(row["dsel_row"])
    return found


def complaint(files: TaskFiles) -> str:
    with pytest.raises(InputError) as error:
        files.read()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_file_is_a_task(files: TaskFiles) -> None:
    assert tasks(files) == {"one": [0, 1, 2, 3], "two": [4, 5, 6, 7]}
    assert tasks(files, "target") == {"goal": [0, 1, 2, 3]}
    table = files.read().source
    assert [Path(p).name for p in table["dsel_file"].to_pylist()] == ["one.jsonl"] * 4 + ["two.jsonl"] * 4
    assert table["text"].to_pylist()[5] == "two question 1\tanswer 1"


@pytest.mark.parametrize("name", ["a.b.jsonl", "a.b.jsonl.gz", "a.b.parquet", "a.b.csv", "a.b.tsv", "a.b.src"])
def test_formats_agree(files: TaskFiles, tmp_path: Path, name: str) -> None:
    rows, path = records("x"), tmp_path / "formats" / name
    match path.suffixes[-1]:
        case ".parquet":
            path.parent.mkdir()
            pq.write_table(pa.Table.from_pylist(rows), path)
        case ".csv":
            put(path, "".join(f"{row['src']},{row['tgt']}\n" for row in [{"src": "src", "tgt": "tgt"}, *rows]).encode())
        case ".tsv":
            put(path, "".join(f"{row['src']}\t{row['tgt']}\n" for row in rows).encode())
        case ".src":
            put(path, "".join(f"{row['src']}\n" for row in rows).encode())
            put(path.with_suffix(".tgt"), "".join(f"{row['tgt']}\n" for row in rows).encode())
        case ending:
            put(path, gzip.compress(encode(rows)) if ending == ".gz" else rows)
    table = replace(files, source=str(path)).read().source
    assert table.select(["src", "tgt"]).to_pylist() == rows
    assert table["task"].unique().to_pylist() == ["a.b"]
    assert "dsel_file" not in table.column_names


def test_a_column_names_tasks(files: TaskFiles, tmp_path: Path) -> None:
    mixed = [{**row, "task": "xyx"[i % 3]} for i, row in enumerate(records("m", 6))]
    put(tmp_path / "source/mixed.jsonl", mixed)
    put(tmp_path / "source/same.jsonl", records("s", task="z"))
    put(tmp_path / "source/void.jsonl", records("v", task=None))
    found = tasks(files)
    assert found == {
        "x": [0, 2, 3, 5],
        "y": [1, 4],
        "one": [6, 7, 8, 9],
        "z": [10, 11, 12, 13],
        "two": [14, 15, 16, 17],
        "void": [18, 19, 20, 21],
    }
    put(tmp_path / "source/mixed.jsonl", [{("kind" if key == "task" else key): value for key, value in row.items()} for row in mixed])
    assert set(tasks(replace(files, task_column="kind"))) == {"one", "same", "two", "void", "x", "y"}
    assert "no column 'sort' (columns: src, tgt, kind, task); set data.task_column=" in complaint(replace(files, task_column="sort"))


def test_whole_numbers_name_and_answer(files: TaskFiles, tmp_path: Path) -> None:
    rows = [{"src": f"q {i}", "tgt": i % 3, "task": 7} for i in range(6)]
    for path in (
        put(tmp_path / "n.jsonl", rows),
        put(tmp_path / "n.csv", "\n".join(["src,tgt,task", *(f"q {i},0{i % 3},7" for i in range(6))]).encode()),
    ):
        table = replace(files, source=path).read().source
        zero = "0" * path.endswith("csv")
        assert table["tgt"].to_pylist() == [f"{zero}{i % 3}" for i in range(6)]
        assert table["task"].unique().to_pylist() == ["7"]
    broken = encode(rows) + b"{"  # read line by line
    docs = replace(files, source=put(tmp_path / "n.jsonl", broken), on_bad_row="skip").read()
    assert docs.source["tgt"].to_pylist() == [str(i % 3) for i in range(6)]
    assert docs.dropped["source"] == {"broken_json": 1}


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv", "tsv"])
def test_numbers_with_fractions_are_no_labels(files: TaskFiles, tmp_path: Path, ending: str) -> None:
    def write(name: str, answers: list[Any]) -> None:
        path = tmp_path / "kinds" / f"{name}.{ending}"
        path.parent.mkdir(exist_ok=True)
        rows = [{"src": f"{name} {i}", "tgt": answer} for i, answer in enumerate(answers)]
        between = "," if ending == "csv" else "\t"
        match ending:
            case "parquet":
                pq.write_table(pa.Table.from_pylist(rows), path)
            case "jsonl":
                put(path, rows)
            case _:
                put(path, "".join(f"{a}{between}{b}\n" for a, b in [("src", "tgt"), *((row["src"], row["tgt"]) for row in rows)]).encode())

    write("fractions", [0.25, 3.0, 1e-05, 12345.678])
    write("whole", [1, 2, 3])
    write("words", ["1.5", "b"])
    source = replace(files, source=str(tmp_path / "kinds")).read().source.to_pylist()
    assert {row["task"]: row["dsel_kind"] for row in source} == {"fractions": "numbers", "whole": "classes", "words": "classes"}
    assert [float(row["tgt"]) for row in source[:4]] == [0.25, 3.0, 1e-05, 12345.678]
    source = replace(files, source=str(tmp_path / "kinds"), regression=["whole"]).read().source.to_pylist()
    assert {row["task"]: row["dsel_kind"] for row in source} == {"fractions": "classes", "whole": "numbers", "words": "classes"}
    assert "data.regression=hole: no such task (tasks: fractions, goal, whole, words)" in complaint(
        replace(files, source=str(tmp_path / "kinds"), regression="hole")
    )


def test_what_is_not_a_number_is_no_label(files: TaskFiles, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"src": list("abcd"), "tgt": [0.5, float("nan"), 1.0, None]}), path)
    given = replace(files, source=str(path))
    assert "x.parquet row 1: 'src' or 'tgt' is empty (1 more bad rows); mend it" in complaint(given)
    docs = replace(given, on_bad_row="skip").read()
    assert docs.source["tgt"].to_pylist() == ["0.5", "1"]
    assert docs.dropped["source"] == {"empty": 2}
    assert docs.listed == [f"{path} row {row} empty" for row in (1, 3)]


def test_other_column_names_and_second_texts(files: TaskFiles, tmp_path: Path) -> None:
    rows = [{"text": f"q {i}", "text_pair": "more" if i < 2 else None, "label": i % 2, "id": i, "src": "mine"} for i in range(4)]
    source = put(tmp_path / "x.jsonl", rows)
    given = replace(
        files, source=source, target=put(tmp_path / "y.jsonl", rows), src_column="text", tgt_column="label", pair_column="text_pair"
    )
    docs = given.read()
    assert docs.source["src"].to_pylist() == ["q 0\nmore", "q 1\nmore", "q 2", "q 3"]
    assert docs.source["dsel_second"].to_pylist() == ["more", "more", None, None]
    assert docs.source["tgt"].to_pylist() == ["0", "1", "0", "1"]
    columns = docs.facts["columns"]
    assert set(columns) == {"task", *rows[0]}
    exported = [{name: row[stored] for name, stored in columns.items()} for row in docs.source.to_pylist()]
    assert exported == [{"task": "x", **row} for row in rows]
    assert "no column 'pair' (columns: text, text_pair, label, id, src); set data.pair_column=" in complaint(
        replace(given, pair_column="pair")
    )


def test_splits(files: TaskFiles, tmp_path: Path) -> None:
    for name in ("source/one", "source/two", "goal"):
        rows = [{**row, "part": "train" if i < 4 else "test"} for i, row in enumerate(records(name, 6))]
        rows[-1]["tgt"] = None  # a hidden answer of the test split is no bad row
        put(tmp_path / f"{name}.jsonl", rows)
    given = replace(files, split_column="part")
    assert "goal.jsonl:6: 'src' or 'tgt' is empty; mend it, or set data.on_bad_row=skip" in complaint(given)
    docs = replace(given, target_split="train").read()
    assert docs.dropped == {"source": {"other_split": 4}, "target": {"other_split": 2}}
    assert tasks(replace(given, target_split="train")) == {"one": [0, 1, 2, 3], "two": [6, 7, 8, 9]}
    assert "goal.jsonl: no row with 'part' 'dev' (seen: 'train', 'test'); set data.target_split=" in complaint(
        replace(given, target_split="dev")
    )
    assert "no column 'fold' (columns: src, tgt, part); set data.split_column=" in complaint(replace(files, split_column="fold"))


def test_random_parts(files: TaskFiles, tmp_path: Path) -> None:
    put(tmp_path / "source/one.jsonl", records("one", 40))
    drawn = [replace(files, max_per_task=20, max_target=3, seed=seed) for seed in (0, 0, 1)]
    found = [tasks(each) for each in drawn]
    assert [len(rows) for rows in found[0].values()] == [20, 4]
    assert found[0] == found[1] != found[2]
    docs = drawn[0].read()
    assert docs.dropped == {"source": {"over_limit": 20}, "target": {"over_limit": 1}}
    whole = {row["id"]: row for row in files.read().source.to_pylist()}
    assert all(whole[row["id"]] == row for row in docs.source.to_pylist())


def test_bad_rows_are_those_of_files(files: TaskFiles, tmp_path: Path) -> None:
    data = encode(records("x")) + b'{"src":\n{"src": " ", "tgt": "a"}\n{"src": "a"}\n{"src": "b", "tgt": ""}\n' + encode(records("y"))
    path = put(tmp_path / "x.jsonl", data)
    with pytest.raises(InputError) as error:
        Files(path, path, src_column="src", tgt_column="tgt").read()
    assert str(error.value) == complaint(replace(files, source=path))
    plain = Files(path, path, src_column="src", tgt_column="tgt", on_bad_row="skip").read()
    docs = replace(files, source=path, on_bad_row="skip").read()
    assert docs.dropped["source"] == plain.dropped["source"] == {"broken_json": 1, "empty": 3}
    assert docs.listed == plain.listed[:4]
    assert docs.source["dsel_row"].to_pylist() == plain.source["dsel_row"].to_pylist() == [0, 1, 2, 3, 8, 9, 10, 11]


def test_rows_without_a_task(files: TaskFiles, tmp_path: Path) -> None:
    rows = [*records("a", task="a"), {"src": "q", "tgt": "t", "task": " "}, {"src": "q", "tgt": "t"}, {"src": "", "tgt": "t"}]
    path = put(tmp_path / "x.jsonl", rows)
    assert "x.jsonl:7: 'src' or 'tgt' is empty" in complaint(replace(files, source=path))
    put(tmp_path / "x.jsonl", rows[:-1])
    assert "x.jsonl:5: 'task' is empty (1 more bad rows); mend it, or set data.on_bad_row=skip" in complaint(replace(files, source=path))
    assert tasks(replace(files, source=path, on_bad_row="skip")) == {"a": [0, 1, 2, 3]}


def test_tasks_that_cannot_be(files: TaskFiles, tmp_path: Path) -> None:
    both = put(tmp_path / "more/one.jsonl", records("again"))
    message = complaint(replace(files, source=[files.source, both]))  # type: ignore[list-item]
    assert message.startswith("task one: stands in ")
    assert all(str(path) in message for path in (both, tmp_path / "source/one.jsonl"))
    assert "task one: a target that is also an auxiliary task (4 and 4 rows)" in complaint(replace(files, target=both))
    put(tmp_path / "source/same.jsonl", [{"src": f"q {i}", "tgt": "yes"} for i in range(3)])
    assert "task same: all of its 3 rows have the answer 'yes' (one class)" in complaint(files)
    put(tmp_path / "source/same.jsonl", [{"src": "q", "tgt": ""}])
    assert "task same: has 0 rows" in complaint(replace(files, on_bad_row="skip"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"q": "a", "tgt": "b"}', ["x.jsonl: no column 'src' (columns: q, tgt)", "data.src_column="]),
        (b'{"src": "a", "a": "b"}', ["x.jsonl: no column 'tgt' (columns: src, a)", "data.tgt_column="]),
        (b'{"src": 1, "tgt": "b"}', ["'src' holds int64", "data.src_column="]),
        (b'{"src": "a", "tgt": [1]}', ["'tgt' holds list", "data.tgt_column="]),
        (b'{"src": "a", "tgt": "b", "task": ["c"]}', ["'task' holds list"]),
        (b'{"src": "a", "tgt": 1}\n{"src": "a", "tgt": "b"}', ["x.jsonl:2: column 'tgt' changed from number to string"]),
        (b"", ["x.jsonl: the file is empty"]),
    ],
)
def test_bad_files(files: TaskFiles, tmp_path: Path, data: bytes, words: list[str]) -> None:
    message = complaint(replace(files, source=put(tmp_path / "x.jsonl", data)))
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_per_task": 0}, r"data.max_per_task=0: must be above 0, or null"),
        ({"max_target": 0}, r"data.max_target=0: must be above 0, or null"),
        ({"on_bad_row": "drop"}, r"data.on_bad_row='drop'"),
        ({"tgt_column": "src"}, r"data.tgt_column=src: is data.src_column as well"),
        ({"target_split": "test"}, r"data.target_split=test: in which column\? set data.split_column="),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TaskFiles("a", "b", **options)


def test_nothing_there(files: TaskFiles) -> None:
    for side in ("source", "target"):
        assert complaint(replace(files, **{side: "no.jsonl"})).startswith(f"{side}=no.jsonl: no such file")
        assert complaint(replace(files, **{side: None})).startswith(f"{side}=None")


def test_identity_follows_content(files: TaskFiles, tmp_path: Path) -> None:
    before = files.identity()
    assert json.loads(json.dumps(before)) == before == replace(files).identity()
    assert replace(files, max_target=2).identity() != before
    put(tmp_path / "source/one.jsonl", records("other"))
    assert files.identity() != before


def test_goes_through_prepare(files: TaskFiles, tmp_path: Path) -> None:
    put(tmp_path / "goal.jsonl", records("goal", 20))
    (tmp_path / "out").mkdir()
    record = prepare(files.read(), Split(), tmp_path / "out")
    assert record["parts"]["source"]["documents"] == 8
    assert record["facts"]["tasks"] == {"source": {"one": 4, "two": 4}, "target": {"goal": 20}}
