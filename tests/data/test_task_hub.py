"""Tasks by `datasets.load_dataset`, from local folders; nothing is fetched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dsel.data.task_hub import TaskHub
from dsel.error import InputError


def write(folder: Path, rows: list[dict[str, Any]], split: str = "train") -> str:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
    return str(folder)


def records(name: str, count: int = 6) -> list[dict[str, Any]]:
    return [{"src": f"{name} {i}", "tgt": f"answer {i % 2}", "n": i} for i in range(count)]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskHub:
    """Two auxiliary tasks of six rows and a target of four."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write(tmp_path / "one", records("one", 2), "test")
    source = [write(tmp_path / name, records(name)) for name in ("two", "one")]
    return TaskHub(source, write(tmp_path / "goal", records("goal", 4)))


def sources(hub: TaskHub) -> Sequence[str]:
    assert not isinstance(hub.source, str)
    return hub.source


def test_reads(hub: TaskHub) -> None:
    docs = hub.read()
    assert docs.source.column_names == ["src", "tgt", "dsel_row", "dsel_kind", "text", "task", "domain", "id"]
    assert docs.source["src"].to_pylist() == [f"{name} {i}" for name in ("one", "two") for i in range(6)]
    assert docs.source["id"].to_pylist() == [f"{name}-{i}" for name in ("one", "two") for i in range(6)]
    assert docs.target["task"].to_pylist() == ["goal"] * 4
    assert docs.dropped == {"source": {}, "target": {}}
    assert docs.facts["tasks"] == {"source": {"one": 6, "two": 6}, "target": {"goal": 4}}
    only = replace(hub, source=sources(hub)[1], split="test").read()
    assert only.source["src"].to_pylist() == ["one 0", "one 1"]


def test_labels_and_second_texts(hub: TaskHub, tmp_path: Path) -> None:
    import datasets

    rows = {"a": ["p", "q", "r"], "b": ["x", "", None], "label": [1, 0, 1]}
    labelled = datasets.Dataset.from_dict(rows).cast_column("label", datasets.ClassLabel(names=["no", "yes"]))
    for name in ("named", "plain"):
        (tmp_path / name).mkdir()
    labelled.to_parquet(tmp_path / "named/train.parquet")
    write(tmp_path / "plain", [{key: values[i] for key, values in rows.items()} for i in range(3)])
    given = replace(
        hub, source=[str(tmp_path / "named"), str(tmp_path / "plain")], target=write(tmp_path / "t", [{"a": "u", "b": "v", "label": "w"}])
    )
    docs = replace(given, src_column="a", tgt_column="label", pair_column="b").read()
    assert docs.source["tgt"].to_pylist() == ["yes", "no", "yes", "1", "0", "1"]
    assert docs.source["src"].to_pylist() == ["p\nx", "q", "r"] * 2
    assert docs.source["dsel_second"].to_pylist() == ["x", None, None] * 2
    assert docs.target["dsel_second"].to_pylist() == ["v"]
    without = datasets.Dataset.from_dict({**rows, "label": [1, -1, 0]}).cast_column("label", datasets.ClassLabel(names=["no", "yes"]))
    without.to_parquet(tmp_path / "named/train.parquet")
    with pytest.raises(InputError, match=r"named \[train\] row 1: 'a' or 'label' is empty; mend it, or set data.on_bad_row=skip"):
        replace(given, src_column="a", tgt_column="label").read()


def test_a_configuration_is_part_of_the_name(hub: TaskHub, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []

    def load(path: str, name: str | None = None, *, split: str, revision: str | None = None) -> Any:
        asked.append((path, name, split, revision))
        return datasets.Dataset.from_list(records(f"{path} {name}"))

    monkeypatch.setattr(datasets, "load_dataset", load)
    docs = TaskHub(["some/glue:rte", "some/glue:mrpc"], "other/name", revision="abc", target_split="test").read()
    assert docs.source["task"].unique().to_pylist() == ["glue_mrpc", "glue_rte"]
    assert docs.target["task"].unique().to_pylist() == ["name"]
    assert asked == [("some/glue", "rte", "train", "abc"), ("some/glue", "mrpc", "train", "abc"), ("other/name", None, "test", "abc")]
    with pytest.raises(InputError, match=r"task name: is the name of some/name and of other/name; take one out of source="):
        TaskHub(["some/name", "other/name"], "a").read()
    with pytest.raises(InputError, match=r"task name: a target that is also an auxiliary task"):
        TaskHub(["some/name"], "other/name").read()


def test_numbers_with_fractions_are_no_labels(hub: TaskHub, tmp_path: Path) -> None:
    rows = [{"src": f"q {i}", "tgt": i / 4} for i in range(5)]
    target = write(tmp_path / "scores", rows)
    docs = replace(hub, target=target).read()
    assert set(docs.source["dsel_kind"].to_pylist()) == {"classes"}
    assert set(docs.target["dsel_kind"].to_pylist()) == {"numbers"}
    assert docs.target["tgt"].to_pylist() == ["0", "0.25", "0.5", "0.75", "1"]
    assert set(replace(hub, target=target, regression="none").read().target["dsel_kind"].to_pylist()) == {"classes"}


def test_random_parts(hub: TaskHub) -> None:
    docs = [replace(hub, max_per_task=4, max_target=3, seed=seed).read() for seed in range(4)]
    assert docs[0].source.equals(replace(hub, max_per_task=4, max_target=3).read().source)
    assert len({tuple(each.source["dsel_row"].to_pylist()) for each in docs}) > 1
    assert docs[0].dropped == {"source": {"over_limit": 4}, "target": {"over_limit": 1}}


def test_identity_follows_a_local_folder(hub: TaskHub) -> None:
    before = hub.identity()
    assert json.loads(json.dumps(before)) == before
    assert replace(hub, seed=1).identity() != before
    write(Path(sources(hub)[0]), records("other"))
    assert hub.identity() != before


def test_empty_rows(hub: TaskHub) -> None:
    write(Path(hub.target), [*records("t", 3), {"src": " ", "tgt": "a"}, {"src": "b", "tgt": None}])
    with pytest.raises(InputError, match=r"row 3: 'src' or 'tgt' is empty \(1 more bad rows\).*data.on_bad_row=skip"):
        hub.read()
    docs = replace(hub, on_bad_row="skip").read()
    assert docs.target["dsel_row"].to_pylist() == [0, 1, 2]
    assert docs.dropped["target"] == {"empty": 2}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": ["/no/such/folder"]}, ["source=/no/such/folder data.split=train", "data=task_files"]),
        ({"split": "nosplit"}, ["two data.split=nosplit"]),
        ({"target_split": "nosplit"}, ["goal data.target_split=nosplit"]),
        ({"src_column": "q"}, ["two [train]: no column 'q'", "src, tgt, n", "data.src_column="]),
        ({"tgt_column": "a"}, ["no column 'a'", "data.tgt_column="]),
        ({"src_column": "n"}, ["holds int64", "data.src_column="]),
        ({"pair_column": "b"}, ["no column 'b'", "data.pair_column="]),
    ],
)
def test_bad_input(hub: TaskHub, options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        replace(hub, **options).read()
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": None}, r"source=None: data=task_hub needs a list"),
        ({"source": []}, r"source=\[\]: data=task_hub needs a list"),
        ({"target": ["a"]}, r"target=\['a'\]: data=task_hub needs one"),
        ({"max_per_task": 0}, r"data.max_per_task=0"),
        ({"on_bad_row": "drop"}, r"data.on_bad_row='drop'"),
    ],
)
def test_constructor_checks(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TaskHub(**{"source": ["a"], "target": "b", **options})
