"""Labelled tasks of the user's own: files and datasets, both read by what reads tasks; nothing is fetched."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dsel.corpus import Split, load, prepare
from dsel.data.labelled_tasks import LabelledTasks
from dsel.data.task_files import TaskFiles
from dsel.data.task_hub import TaskHub
from dsel.error import InputError
from dsel.labelled import read_tasks

COLLECTION = os.environ.get("DSEL_TASK_COLLECTION", "")  # a folder of Parquet files with text, text_pair, label, split


def records(name: str, count: int = 6, **more: Any) -> list[dict[str, Any]]:
    return [{"text": f"{name} {i}", "label": i % 2, "label_name": ["no", "yes"][i % 2], **more} for i in range(count)]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> LabelledTasks:
    """Sources of classes, of classes by name, and of numbers, one of them of pairs; a target."""
    write(tmp_path / "source/one.jsonl", records("one"))
    write(tmp_path / "source/named.parquet", [{**row, "label": row["label_name"]} for row in records("named")])
    pairs = [{"text": f"score {i}", "text_pair": "more" if i else None, "label": i / 4} for i in range(5)]
    write(tmp_path / "source/score.parquet", pairs)
    return LabelledTasks(str(tmp_path / "source"), write(tmp_path / "goal.jsonl", records("goal", 20)))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `datasets.load_dataset` knows by path, name and split."""
    import datasets

    known: dict[str, Any] = {}

    def load_dataset(path: str, name: str | None = None, *, split: str, revision: str | None = None) -> Any:
        key = "/".join(filter(None, (path, name, split, revision)))
        if key not in known:
            raise FileNotFoundError(f"no {key} here")
        return known[key]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return known


def complaint(data: LabelledTasks) -> str:
    with pytest.raises(InputError) as error:
        data.read()
    assert "\n" not in str(error.value)
    return str(error.value)


def names(data: LabelledTasks) -> tuple[list[str], list[str]]:
    docs = data.read()
    return docs.source["task"].unique().to_pylist(), docs.target["task"].unique().to_pylist()


def test_files(files: LabelledTasks) -> None:
    docs = files.read()
    assert (docs.apart, docs.in_tasks, docs.needs_source) == (True, True, True)
    assert names(files) == (["named", "one", "score"], ["goal"])
    rows = {name: [row for row in docs.source.to_pylist() if row["task"] == name] for name in ("named", "one", "score")}
    assert [row["tgt"] for row in rows["one"]] == ["0", "1"] * 3
    assert [row["tgt"] for row in rows["named"]] == ["no", "yes"] * 3
    assert [row["tgt"] for row in rows["score"]] == ["0", "0.25", "0.5", "0.75", "1"]
    assert [row["src"] for row in rows["score"]] == ["score 0", *(f"score {i}\nmore" for i in range(1, 5))]
    assert [row["dsel_second"] for row in rows["score"]] == [None, *["more"] * 4]
    assert {name: {row["dsel_kind"] for row in found} for name, found in rows.items()} == {
        "one": {"classes"}, "named": {"classes"}, "score": {"numbers"},
    }  # fmt: skip
    assert not {"label", "label_name", "text_pair"} & set(docs.source.column_names)
    assert {Path(row["dsel_file"]).stem for row in rows["one"]} == {"one"}


def test_reads_as_the_modules_for_one_kind(files: LabelledTasks, tmp_path: Path) -> None:
    common = {"max_per_task": 4, "max_target": 7, "seed": 3}
    mine = replace(files, source=str(tmp_path / "source/score.parquet"), **common).read()  # type: ignore[arg-type]
    theirs = TaskFiles(str(tmp_path / "source/score.parquet"), str(files.target), "text", "label", "text_pair", **common).read()  # type: ignore[arg-type]
    for side in ("source", "target"):
        ours, other = getattr(mine, side), getattr(theirs, side)
        assert ours.equals(other.select(ours.column_names))
    assert mine.dropped == theirs.dropped


def test_goes_through_prepare_and_is_read_as_values(files: LabelledTasks, tmp_path: Path) -> None:
    more = [*records("one", 2), {"text": "goal 3", "label": 1}, {"text": "one 1", "label": 0}]
    write(tmp_path / "source/two.jsonl", more)
    (tmp_path / "out").mkdir()
    record = prepare(files.read(), Split(), tmp_path / "out")
    assert record["dropped"]["source"] == {"duplicate": 1, "also_in_target": 1}
    found = read_tasks(load(tmp_path / "out").pools())["source"]
    assert {name: len(task) for name, task in found.items()} == {"named": 6, "one": 6, "score": 5, "two": 2}
    assert found["score"].is_regression
    assert found["score"].labels.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert (list(found["score"].first), list(found["score"].second or [])) == ([f"score {i}" for i in range(5)], [None, *["more"] * 4])
    assert found["named"].classes == ("no", "yes")
    assert found["one"].second is None


def test_a_file_on_both_sides_is_the_targets(files: LabelledTasks, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = replace(files, target=str(tmp_path / "source/../source/one.jsonl"))
    with caplog.at_level(logging.INFO, "dsel"):
        assert names(given) == (["named", "score"], ["one"])
    assert caplog.messages == [f"source: {tmp_path}/source/one.jsonl is left out: it is the target's"]
    assert given.read().listed == [f"{tmp_path}/source/one.jsonl is_target"]
    assert given.read().facts["files"]["source"] == [f"{tmp_path}/source/{name}.parquet" for name in ("named", "score")]
    assert "all 3 files are the target's; give others, or source=null" in complaint(replace(files, target=files.source))  # type: ignore[arg-type]
    write(tmp_path / "more/one.jsonl", records("more"))
    assert "task one: a target that is also an auxiliary task (6 and 6 rows)" in complaint(
        replace(files, target=str(tmp_path / "more/one.jsonl"))
    )


def test_several_targets_and_no_source(files: LabelledTasks, tmp_path: Path) -> None:
    targets = [str(files.target), str(tmp_path / "source/score.parquet")]
    assert names(replace(files, target=targets)) == (["named", "one"], ["goal", "score"])
    alone = replace(files, source=None, target=targets)
    docs = alone.read()
    assert (docs.source.num_rows, docs.needs_source) == (0, False)
    assert names(alone) == ([], ["goal", "score"])
    (tmp_path / "out").mkdir()
    assert prepare(docs, Split(), tmp_path / "out")["parts"]["source"]["documents"] == 0
    assert json.loads(json.dumps(alone.identity())) == alone.identity()


def test_datasets(hub: dict[str, Any], files: LabelledTasks) -> None:
    import datasets

    feature = datasets.ClassLabel(names=["no", "yes"])
    labelled = datasets.Dataset.from_list(records("a")).cast_column("label", feature)
    hub |= {
        "some/glue/mrpc/train": datasets.Dataset.from_list([{**row, "text_pair": "b"} for row in records("m")]),
        "imdb/train": labelled,
        "imdb/test": labelled,
        "scores/train": datasets.Dataset.from_list([{**row, "label": i / 4} for i, row in enumerate(records("s"))]),
    }
    given = replace(files, source=["some/glue:mrpc", "scores"], target="imdb")
    docs = given.read()
    assert names(given) == (["glue_mrpc", "scores"], ["imdb"])
    assert docs.target["tgt"].to_pylist() == ["no", "yes"] * 3
    assert docs.source["dsel_kind"].to_pylist() == ["classes"] * 6 + ["numbers"] * 6
    assert docs.source["dsel_second"].to_pylist() == ["b"] * 6 + [None] * 6
    assert docs.facts["target"] == [{"path": "imdb", "split": "train"}]
    assert names(replace(files, target="imdb", target_split="test")) == (["named", "one", "score"], ["imdb"])  # files and a dataset
    theirs = TaskHub(["some/glue:mrpc", "scores"], "imdb", "text", "label").read()
    assert docs.target.select(["src", "tgt", "id"]).equals(theirs.target.select(["src", "tgt", "id"]))
    assert "source=other data.split=train: no other/train here; correct the name, or check the network, or give" in complaint(
        replace(given, source="other")
    )
    assert "no column 'more' (columns: text, label, label_name, text_pair); set data.pair_column=" in complaint(
        replace(given, pair_column="more")
    )
    assert "imdb [train]: no column 'mark'" in complaint(replace(given, source=None, label_column="mark"))
    assert "set data.label_column= to one of them" in complaint(replace(given, source=None, label_column="mark"))


def test_splits_and_limits(files: LabelledTasks, tmp_path: Path) -> None:
    rows = [{**row, "part": "train" if i < 6 else "test"} for i, row in enumerate(records("x", 10))]
    source, target = write(tmp_path / "x.jsonl", rows), write(tmp_path / "y.jsonl", [{**row, "text": f"y {row['text']}"} for row in rows])
    given = replace(files, source=source, target=target, split_column="part")
    docs = given.read()
    assert (docs.source.num_rows, docs.target.num_rows) == (6, 10)
    assert replace(given, target_split="test").read().target.num_rows == 4
    assert docs.dropped == {"source": {"other_split": 4}, "target": {}}
    docs = replace(given, max_per_task=5, max_target=7).read()
    assert (docs.source.num_rows, docs.target.num_rows) == (5, 7)


def test_a_column_may_name_tasks(files: LabelledTasks, tmp_path: Path) -> None:
    mixed = write(tmp_path / "mixed.jsonl", [*records("u", kind="u"), *records("v", kind="v")])
    assert names(replace(files, source=mixed, task_column="kind")) == (["u", "v"], ["goal"])
    assert "no column 'sort' (columns: text, label, label_name, kind); set data.task_column=" in complaint(
        replace(files, source=mixed, task_column="sort")
    )


def test_bad_labels(files: LabelledTasks, tmp_path: Path) -> None:
    def bad(rows: list[dict[str, Any]], name: str = "bad.parquet") -> LabelledTasks:
        return replace(files, source=write(tmp_path / name, rows))

    lacking = bad([*records("a"), {"text": "b", "label": None}, {"text": "c", "label": None}])
    assert complaint(lacking).endswith("bad.parquet row 6: 'text' or 'label' is empty (1 more bad rows); mend it, or set data.on_bad_row=skip to drop such rows")  # fmt: skip  # noqa: E501
    assert replace(lacking, on_bad_row="skip").read().dropped["source"] == {"empty": 2}
    nan = bad([{"text": "a", "label": 0.5}, {"text": "b", "label": float("nan")}, {"text": "c", "label": 1.5}])
    assert "bad.parquet row 1: 'text' or 'label' is empty; mend it" in complaint(nan)
    assert "task bad: all of its 3 rows have the answer '1' (one class)" in complaint(
        bad([{"text": f"a {i}", "label": 1} for i in range(3)])
    )
    assert "bad.parquet: no column 'label' (columns: text, label_name); set data.label_column= to one of them" in complaint(
        bad([{"text": "a", "label_name": "yes"}])
    )
    assert "no column 'text' (columns: q, label); set data.text_column=" in complaint(bad([{"q": "a", "label": 1}]))
    assert "'label' holds list" in (message := complaint(bad([{"text": "a", "label": [1]}])))
    assert "data.label_column=" in message
    assert "empty.jsonl: the file is empty" in complaint(bad([], "empty.jsonl"))
    assert "bad.parquet: the file is empty" in complaint(replace(bad([]), source=_without_rows(tmp_path / "bad.parquet")))
    assert "data.regression=other: no such task (tasks: goal, named, one, score)" in complaint(replace(files, regression=["other"]))


def _without_rows(path: Path) -> str:
    pq.write_table(pa.Table.from_pylist(records("a")).slice(0, 0), path)
    return str(path)


def test_two_of_one_name(files: LabelledTasks, tmp_path: Path) -> None:
    other = write(tmp_path / "more/one.jsonl", records("more"))
    message = complaint(replace(files, source=[str(files.source), other]))
    assert message.startswith("task one: stands in ")
    assert other in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": []}, r"source=\[\]: give files, folders or globs, or names of datasets on the Hub, or null for none"),
        ({"source": ""}, r"source='': give files"),
        ({"source": 3}, r"source=3: give files"),
        ({"target": None}, r"target=None: give files, folders or globs, or names of datasets on the Hub$"),
        ({"target": ["a", 1]}, r"target=\['a', 1\]: give files"),
        ({"max_per_task": 0}, r"data.max_per_task=0: must be above 0, or null"),
        ({"on_bad_row": "drop"}, r"data.on_bad_row='drop'"),
        ({"label_column": "text"}, r"data.label_column=text: is data.text_column as well"),
        ({"pair_column": "text"}, r"data.pair_column=text: is data.text_column as well"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LabelledTasks(**{"source": "a", "target": "b", **options})


def test_files_or_datasets(files: LabelledTasks, tmp_path: Path) -> None:
    assert "source=no.jsonl: no such file or folder" in complaint(replace(files, source="no.jsonl"))
    assert f"source={tmp_path}/no: no such file or folder" in complaint(replace(files, source=f"{tmp_path}/no"))
    assert "source=no/*: no file matches this glob" in complaint(replace(files, source="no/*"))
    message = complaint(replace(files, source=[str(files.source), "some/name"]))
    assert f"source: {files.source} is of files, and some/name would be a dataset on the Hub" in message
    assert "data.revision=abc: is for datasets on the Hub, and there are none" in complaint(replace(files, revision="abc"))
    datasets = replace(files, source=None, target="some/name")
    assert "data.split_column=part: is for files, and there are none" in complaint(replace(datasets, split_column="part"))
    assert "data.task_column=kind: is for files, and there are none" in complaint(replace(datasets, task_column="kind"))
    assert "data.target_split=test: in which column? set data.split_column=" in complaint(replace(files, target_split="test"))


def test_identity_follows_content(files: LabelledTasks, tmp_path: Path) -> None:
    before = files.identity()
    assert json.loads(json.dumps(before)) == before == replace(files).identity()
    assert replace(files, regression="none").identity() != before
    assert replace(files, target="some/name").identity() != replace(files, target="some/other").identity()
    write(tmp_path / "source/one.jsonl", records("other"))
    assert files.identity() != before


@pytest.mark.skipif(not COLLECTION, reason="DSEL_TASK_COLLECTION names no folder")
def test_a_collection(tmp_path: Path) -> None:
    folder = Path(COLLECTION)
    names = {"superglue_cb", "acl_arc", "superglue_rte"}
    paths = [str(folder / f"{name}.parquet") for name in sorted(names)]
    docs = LabelledTasks(paths, paths[1], split_column="split").read()
    for side, table in (("source", docs.source), ("target", docs.target)):
        for name in table["task"].unique().to_pylist():
            rows = pq.read_table(folder / f"{name}.parquet").to_pylist()
            rows = [row for row in rows if side == "target" or row["split"] == "train"]
            found = [row for row in table.to_pylist() if row["task"] == name]
            if len(rows) <= 2000:
                assert Counter((row["text"], row["text_pair"], str(row["label"])) for row in rows) == Counter(
                    (row["src"] if (second := row["dsel_second"]) is None else row["src"][: -len(second) - 1], second, row["tgt"])
                    for row in found
                )
    prepare(docs, Split(), tmp_path)
    assert set(read_tasks(load(tmp_path).pools())["source"]) == names - {Path(paths[1]).stem}
