from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import dsel
from streams import Fitted, encode, select, sentences

from dsel.data import hub_stream
from dsel.data.hub import Hub
from dsel.data.hub_stream import HubStream
from dsel.error import InputError
from dsel.pool import Budget

TEXTS = sentences(50)
ALL = Budget(fraction=1.0)


def write_dataset(folder: Path, kind: str, texts: list[str], num_files: int = 5) -> Path:
    folder.mkdir()
    size = -(-len(texts) // num_files)
    for number in range(num_files):
        (folder / f"train-{number}{kind}").write_bytes(encode(kind, texts[number * size : (number + 1) * size], number * size))
    return folder


@pytest.fixture(autouse=True)
def _no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    hub_stream.open_dataset.cache_clear()
    yield
    monkeypatch.undo()
    hub_stream.open_dataset.cache_clear()


@pytest.fixture
def data(tmp_path: Path) -> HubStream:
    """A local folder of five files as a dataset."""
    write_dataset(tmp_path / "mine", ".jsonl", [f"a target {i}" for i in range(12)], 1)
    return HubStream(str(write_dataset(tmp_path / "source", ".jsonl", TEXTS)), str(tmp_path / "mine"))


def again(data: HubStream, **changes: Any) -> HubStream:
    """As another process would open it."""
    hub_stream.open_dataset.cache_clear()
    return replace(data, **changes)


def test_the_selection_is_that_of_the_dataset_in_memory(data: HubStream, tmp_path: Path) -> None:
    both = []
    for name, made in (("stream", data), ("memory", Hub(data.source, data.target))):
        (tmp_path / name).mkdir()
        both.append(select(made, tmp_path / name, Fitted(), budget=Budget(units=9)))
    assert len(data.stream.pieces) == 5
    assert len(list((tmp_path / "stream" / "artifacts").glob("piece-*/done.json"))) == 5
    rows = [dict(row) for row in both[0][0]]
    assert [Path(row.pop("dsel_file")).parent.name for row in rows] == ["source"] * 9
    assert (rows, both[0][1]) == (both[1][0], both[1][1])
    assert [(row["text"], row["n"]) for row in rows] == [(TEXTS[row["dsel_row"]], row["dsel_row"]) for row in rows]


@pytest.mark.parametrize("kind", [".parquet", ".jsonl.gz", ".csv", ".txt"])
def test_what_the_library_reads(data: HubStream, tmp_path: Path, kind: str) -> None:
    write_dataset(tmp_path / "other", kind, TEXTS)
    rows, record = select(replace(data, source=str(tmp_path / "other")), tmp_path, budget=ALL)
    assert {row["text"] for row in rows} == set(TEXTS)
    assert record["read"]["source"] == len(TEXTS)


def test_a_shard_is_known_by_name_size_and_time(data: HubStream, tmp_path: Path) -> None:
    before = [shard.key for shard in data.stream.pieces]
    assert json.loads(json.dumps(data.identity())) == data.identity() == again(data).identity()
    path = tmp_path / "source" / "train-2.jsonl"
    path.write_bytes(path.read_bytes() + encode(".jsonl", ["one more"]))
    changed = again(data)
    assert [a == b for a, b in zip(before, [s.key for s in changed.stream.pieces], strict=True)] == [True, True, False, True, True]
    assert changed.identity() != data.identity()
    with pytest.raises(InputError, match=r"train-2.jsonl: is gone, or changed while it was in use; run again"):
        select(data, tmp_path)


def test_a_commit_is_what_remote_shards_are_known_by(data: HubStream, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the Hub would answer, made up: addresses that hold a commit."""
    commit = "0123456789" * 4

    class Files(list[str]):
        origin_metadata = (("me/mine", commit), ("me/mine", commit))

    class Answer:
        num_shards = 2
        splits = None
        hash = "of the builder"
        info = config = property(lambda self: self)
        data_files = {"train": Files([f"hf://datasets/me/mine@{commit}/{n}.parquet" for n in range(2)])}  # noqa: RUF012

    asked = []

    def answer(*place: Any) -> tuple[Any, Any]:
        asked.append(place)
        return Answer(), Answer()

    monkeypatch.setattr(hub_stream, "open_dataset", answer)
    stream = replace(data, source="me/mine").stream
    assert [shard.path for shard in stream.pieces] == Answer.data_files["train"]
    assert stream.place == ("me/mine", None, "train", commit)
    asked.clear()
    pinned = replace(data, source="me/mine", source_revision=commit)
    assert commit in str(pinned.identity())
    assert not asked  # nobody need be asked for what cannot change
    Answer.data_files["train"].pop()  # shards that are not files
    numbered = replace(data, source="me/mine").stream.pieces
    assert [shard.path for shard in numbered] == ["me/mine [train] shard 0", "me/mine [train] shard 1"]
    assert len({shard.key for shard in numbered}) == 2


def test_bad_rows(data: HubStream, tmp_path: Path) -> None:
    (tmp_path / "source" / "train-1.jsonl").write_text('{"text": "a", "n": 1}\n{"text": " ", "n": 2}\n{"text": null, "n": 3}\n')
    (tmp_path / "source" / "train-3.jsonl").write_text("")
    with pytest.raises(InputError, match=r"train-1.jsonl row 1: 'text' is empty \(1 more bad rows\); mend it, or set data.on_bad_row=skip"):
        select(data, tmp_path)
    rows, record = select(replace(data, on_bad_row="skip"), tmp_path, budget=ALL)
    assert record["dropped"]["source"] == {"empty": 2, "empty_file": 1}
    assert len(rows) == 31
    (tmp_path / "source" / "train-1.jsonl").write_text('{"text": "a", "n": 1}\n')
    with pytest.raises(InputError, match=r"train-3.jsonl row 0: the shard is empty"):
        select(again(data), tmp_path)


def test_invalid_utf8_is_a_bad_row(data: HubStream, tmp_path: Path) -> None:
    raw = pa.array([b"one", b"t\xffwo", b"three"], pa.binary())
    (tmp_path / "other").mkdir()
    pq.write_table(pa.table({"text": pa.StringArray.from_buffers(3, *raw.buffers()[1:])}), tmp_path / "other" / "train.parquet")
    shards = replace(data, source=str(tmp_path / "other"))
    with pytest.raises(InputError, match=r"train.parquet row 1: invalid UTF-8 in column 'text'"):
        select(shards, tmp_path)
    rows, record = select(replace(shards, on_bad_row="skip"), tmp_path, budget=ALL)
    assert sorted(row["text"] for row in rows) == ["one", "three"]
    assert record["dropped"]["source"] == {"invalid_utf8": 1}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"text": "a"}\n{"text": \n', r"train-2.jsonl: cannot be read from row 0 on \("),
        (b'{"body": "a"}\n', r"train-2.jsonl: cannot be read from row 0 on \(Couldn't cast"),
        (None, r"train-2.jsonl: is gone, or changed"),
    ],
)
def test_a_shard_that_cannot_be_read(data: HubStream, tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "source" / "train-2.jsonl"
    if content is None:
        _ = data.stream
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        select(replace(data, on_bad_row="skip") if content else data, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"source": "/no/such/folder"}, ["source=/no/such/folder"]),
        ({"split": "nosplit"}, ["source=", "data.split=nosplit"]),
        ({"target_split": "nosplit"}, ["target=", "data.target_split=nosplit"]),
        ({"text_column": "body"}, ["no column 'body'", "text, n", "data.text_column="]),
        ({"id_column": "key"}, ["no column 'key'", "data.id_column="]),
        ({"min_characters": 999}, ["no documents left", "50 short", "data.min_characters"]),
        ({"sample": 0}, ["data.sample=0: must be at least 1"]),
        ({"source": ["a"]}, ["data=hub needs one dataset's name"]),
    ],
)
def test_mistakes(data: HubStream, tmp_path: Path, options: dict[str, Any], words: list[str]) -> None:
    if "min_characters" in options:
        write_dataset(tmp_path / "long", ".jsonl", ["x" * 1000] * 12, 1)
        options = {**options, "target": str(tmp_path / "long")}
    with pytest.raises(InputError) as caught:
        replace(data, **options).read()
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_the_sample_is_the_beginning_of_shards(data: HubStream) -> None:
    documents = replace(data, sample=10).read().source
    assert documents["text"].to_pylist() == [TEXTS[10 * shard + n] for shard in range(5) for n in range(2)]
    assert replace(data, sample=1000).read().source["text"].to_pylist() == TEXTS


def test_on_the_command_line(data: HubStream, tmp_path: Path) -> None:
    files = [f"source={data.source}", f"target={data.target}", f"output={tmp_path / 'best.jsonl'}"]
    answer = dsel("experiment=select", "data=hub_stream", *files, "scorer=dsir", "budget.units=5", outputs=tmp_path / "outputs")
    assert answer.code == 0
    rows = [json.loads(line) for line in (tmp_path / "best.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == [TEXTS[row["dsel_row"]] for row in rows]
    assert len(rows) == 5
