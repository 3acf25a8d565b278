from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dsel.data.hub import Hub
from dsel.error import InputError


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A source of six jsonl rows and a target of four parquet rows; nothing is fetched."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for side in ("source", "target"):
        (tmp_path / side).mkdir()
    write(tmp_path / "source", [{"text": f"source {i}", "id": f"s{i}", "n": i} for i in range(6)])
    pq.write_table(pa.table({"text": [f"target {i}" for i in range(4)]}), tmp_path / "target" / "train.parquet")
    return Hub(str(tmp_path / "source"), str(tmp_path / "target"))


def write(folder: Path, records: list[dict[str, Any]]) -> None:
    (folder / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))


@pytest.mark.parametrize("streaming", [False, True])
def test_reads(hub: Hub, streaming: bool) -> None:
    docs = replace(hub, streaming=streaming, max_documents=5).read()
    assert docs.source["text"].to_pylist() == [f"source {i}" for i in range(5)]
    assert docs.source["n"].to_pylist() == docs.source["dsel_row"].to_pylist() == list(range(5))
    assert docs.source["id"].to_pylist() == [f"s{i}" for i in range(5)]
    assert docs.target["text"].to_pylist() == [f"target {i}" for i in range(4)]
    assert docs.dropped == {"source": {}, "target": {}}


def test_reads_all_without_a_limit(hub: Hub) -> None:
    assert hub.read().source.num_rows == 6


def test_identity_follows_a_local_folder(hub: Hub) -> None:
    before = hub.identity()
    assert json.loads(json.dumps(before)) == before
    write(Path(hub.source), [{"text": "other"}])
    assert hub.identity() != before


def test_empty_rows(hub: Hub) -> None:
    write(Path(hub.source), [{"text": "a"}, {"text": " "}, {"text": None}, {"text": "b"}])
    with pytest.raises(InputError, match=r"row 1: 'text' is empty.*data.on_bad_row=skip"):
        hub.read()
    docs = replace(hub, on_bad_row="skip").read()
    assert docs.source["dsel_row"].to_pylist() == [0, 3]
    assert docs.dropped["source"] == {"empty": 2}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": "/no/such/folder"}, ["source=/no/such/folder"]),
        ({"split": "nosplit"}, ["source=", "data.split=nosplit"]),
        ({"target_split": "nosplit"}, ["target=", "data.target_split=nosplit"]),
        ({"source_config": "odd"}, ["data.source_config=odd"]),
        ({"text_column": "body"}, ["no column 'body'", "text, id, n", "data.text_column="]),
        ({"text_column": "n"}, ["holds int64", "data.text_column="]),
        ({"id_column": "key"}, ["no column 'key'", "data.id_column="]),
        ({"domain_column": "kind"}, ["no column 'kind'", "data.domain_column="]),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_bad_input(hub: Hub, options: dict[str, Any], words: list[str], streaming: bool) -> None:
    with pytest.raises(InputError) as error:
        replace(hub, streaming=streaming, max_documents=5, **options).read()
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_no_network_is_one_line(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("Couldn't reach 'some/name' on the Hub\nmore")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(InputError, match=r"^source=some/name data.split=train: Couldn't reach .*network.*data=files$"):
        replace(hub, source="some/name").read()


def test_constructor_checks() -> None:
    with pytest.raises(InputError, match=r"data\.max_documents="):
        Hub("a", "b", streaming=True)
    with pytest.raises(InputError, match=r"data=files"):
        Hub(["a"], "b")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"data\.on_bad_row='drop'"):
        Hub("a", "b", on_bad_row="drop")  # type: ignore[arg-type]
