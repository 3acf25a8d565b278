"""What a source of many files may hold that is no document, or not readable at all."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from streams import encode, select, sentences

from dsel.data.shards import Shards
from dsel.error import InputError
from dsel.pool import Budget

TEXTS = sentences(200)
GOOD = TEXTS[:30]
ALL = Budget(fraction=1.0)


def parquet(text: Any, **others: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": text, **others} if text is not None else others), sink, row_group_size=2)
    return sink.getvalue()


def broken_page() -> bytes:
    """A Parquet file with one byte of one page changed."""
    data = encode(".parquet", TEXTS)
    column = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(40).column(0)
    at = column.dictionary_page_offset + column.total_compressed_size - 1
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def invalid(kind: str) -> bytes:
    """Four rows, of which the third is no UTF-8."""
    if kind == ".parquet":
        raw = pa.array([b"one", b"two", b"th\xffree", b"four"], pa.binary())
        return parquet(pa.StringArray.from_buffers(4, *raw.buffers()[1:]))
    data = encode(kind.removesuffix(".gz"), ["one", "two", "th@ree", "four"]).replace(b"@", b"\xff")
    return gzip.compress(data) if kind.endswith(".gz") else data


def lines(*records: dict[str, Any]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


MANY = sentences(5000)
GZ, ZST = encode(".jsonl.gz", MANY), encode(".jsonl.zst", MANY)

# what is wrong, the file's extension and bytes, what is said of it
UNREADABLE = [
    ("no parquet", ".parquet", b"PAR1 not really", "bad.parquet: not a whole Parquet file"),
    ("truncated parquet", ".parquet", encode(".parquet", TEXTS)[:-40], "bad.parquet: not a whole Parquet file"),
    ("broken page", ".parquet", broken_page(), r"bad.parquet: not a whole Parquet file from row 120 on \(could not verify page"),
    ("truncated gzip", ".jsonl.gz", GZ[:-200], r"bad.jsonl.gz: cannot be read after line [34]\d{3} \(Truncated"),
    ("broken gzip", ".jsonl.gz", GZ[:-4000] + b"?" * 9 + GZ[-3991:], r"bad.jsonl.gz: cannot be read( after line \d+)? \(zlib"),
    ("truncated zst", ".jsonl.zst", ZST[:-200], r"bad.jsonl.zst: cannot be read after line [34]\d{3} \(Truncated"),
    ("no gzip", ".txt.gz", b"plain text", r"bad.txt.gz: cannot be read \(zlib"),
    (
        "no column",
        ".parquet",
        parquet(None, body=["a", "b"]),
        r"bad.parquet row 0: no column 'text' \(columns: body\); set data.text_column=",
    ),
    ("no column", ".csv", b"body,n\na,1\n", r"bad.csv:2: no column 'text' \(columns: body, n\)"),
    ("no column", ".jsonl", lines({"body": "a"}, {"body": "b"}), r"bad.jsonl:1: no column 'text' \(columns: body\)"),
    ("no strings", ".parquet", parquet([1, 2]), "bad.parquet: column 'text' holds int64, not strings"),
    ("open quote", ".csv", b'text,n\na,1\n"b,2\nc,3\n', "bad.csv:3: a quote is opened here and never closed"),
    ("column twice", ".csv", b"text,text\na,1\n", "bad.csv:1: the header names column 'text' twice"),
]

# what is wrong, the file's extension and bytes, what is said of it, how many rows are lost, and for which reason they are counted
SKIPPED = [
    ("empty file", ".jsonl", b"", "bad.jsonl:1: the file is empty", (1, "empty_file")),
    ("empty file", ".txt.gz", gzip.compress(b""), "bad.txt.gz:1: the file is empty", (1, "empty_file")),
    ("blank lines", ".jsonl", b"\n\n \n", "bad.jsonl:1: the file is empty", (1, "empty_file")),
    ("header alone", ".csv", b"text,n\n", "bad.csv:1: the file is empty", (1, "empty_file")),
    ("no rows", ".parquet", parquet(pa.array([], pa.string())), "bad.parquet row 0: the file is empty", (1, "empty_file")),
    ("bad JSON", ".jsonl", lines({"text": "x"}) + b'{"text": \n', "bad.jsonl:2: broken JSON", (1, "broken_json")),
    ("no string", ".jsonl", lines({"text": "x"}, {"text": 7}), "bad.jsonl:2: 'text' is 7, a int", (1, "not_a_string")),
    ("no strings", ".jsonl", lines({"text": 6}, {"text": 7}), "bad.jsonl:1: 'text' is 6, a int", (2, "not_a_string")),
    ("no key", ".jsonl", lines({"text": "x"}, {"body": "y"}), "bad.jsonl:2: 'text' is empty", (1, "empty")),
    ("no text", ".jsonl", lines({"text": "x"}, {"text": ""}, {"text": None}), "bad.jsonl:2: 'text' is empty", (2, "empty")),
    ("no text", ".txt", b"x\n\n \ny", "bad.txt:2: 'text' is empty", (2, "empty")),
    ("no text", ".csv", b'text,n\n"a\nb",1\n,2\n', "bad.csv:4: 'text' is empty", (1, "empty")),
    ("no text", ".parquet", parquet(["a", None, "b", " "]), "bad.parquet row 1: 'text' is empty", (2, "empty")),
    ("fields", ".csv", b"text,n\nx,1\ny\n", "bad.csv:3: 1 fields where the header has 2", (1, "ragged")),
    *(
        ("UTF-8", kind, invalid(kind), rf"bad{kind}{place}: invalid UTF-8", (1, "invalid_utf8"))
        for kind, place in ((".jsonl", ":3"), (".jsonl.gz", ":3"), (".txt", ":3"), (".csv", ":4"), (".parquet", " row 2"))
    ),
]  # fmt: skip


def names(cases: Sequence[tuple[Any, ...]]) -> list[str]:
    return [f"{case[0]} {case[1]}" for case in cases]


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str, bytes], Shards]:
    """A source of two good files and a bad one between them."""

    def make(kind: str, bad: bytes) -> Shards:
        (source := tmp_path / "source").mkdir()
        (source / "a.jsonl").write_bytes(encode(".jsonl", GOOD[:20]))
        (source / f"bad{kind}").write_bytes(bad)
        (source / "c.jsonl").write_bytes(encode(".jsonl", GOOD[20:]))
        (tmp_path / "sample.txt").write_bytes(encode(".txt", GOOD))
        (tmp_path / "mine.txt").write_bytes(encode(".txt", [f"a target {i}" for i in range(12)]))
        return Shards(str(source), str(tmp_path / "mine.txt"), sample_from=str(tmp_path / "sample.txt"), piece_bytes=300)

    return make


def finished(folder: Path) -> int:
    return len(list((folder / "artifacts").glob("piece-*/done.json")))


@pytest.mark.parametrize("on_bad_row", ["fail", "skip"])
@pytest.mark.parametrize(("what", "kind", "data", "words"), UNREADABLE, ids=names(UNREADABLE))
def test_a_file_of_which_nobody_can_say_how_much_is_lost(
    make: Callable[[str, bytes], Shards], tmp_path: Path, what: str, kind: str, data: bytes, words: str, on_bad_row: Any
) -> None:
    """It is an error, whatever becomes of bad rows. Without it the run goes on, and what is scored already stays."""
    shards = replace(make(kind, data), on_bad_row=on_bad_row)
    with pytest.raises(InputError, match=words) as caught:
        select(shards, tmp_path)
    assert "\n" not in str(caught.value)
    before = finished(tmp_path)
    (tmp_path / "source" / f"bad{kind}").unlink()
    rows, record = select(replace(shards), tmp_path, budget=ALL)
    assert sorted(row["text"] for row in rows) == sorted(GOOD)
    assert record["dropped"]["source"] == {}
    new = finished(tmp_path) - before
    assert new == len(replace(shards).stream.pieces) - before or (what == "broken page" and new > 0)


@pytest.mark.parametrize("sample", [None, "sample.txt"])
@pytest.mark.parametrize(("what", "kind", "data", "words", "lost"), SKIPPED, ids=names(SKIPPED))
def test_bad_rows_are_named_or_counted(
    make: Callable[[str, bytes], Shards], tmp_path: Path, what: str, kind: str, data: bytes, words: str, lost: tuple[int, str], sample: Any
) -> None:
    shards = replace(make(kind, data), sample_from=str(tmp_path / sample) if sample else None)
    with pytest.raises(InputError, match=rf"{words}.*; mend it, or set data.on_bad_row=skip") as caught:
        select(shards, tmp_path)
    assert "\n" not in str(caught.value)
    before = finished(tmp_path)
    rows, record = select(replace(shards, on_bad_row="skip"), tmp_path, budget=ALL)
    assert record["dropped"]["source"] == {lost[1]: lost[0]}
    assert {row["text"] for row in rows} >= set(GOOD)
    assert record["read"]["source"] == len(rows) + (lost[0] if lost[1] != "empty_file" else 0)
    assert len(record["listed"]) == lost[0]
    assert record["listed"][0].endswith(lost[1])
    assert before < finished(tmp_path) == len(shards.stream.pieces)
    assert bool(before) == bool(sample)  # where the sample is clean, what was scored before the error is used again
    with pytest.raises(InputError, match=r"/bad\..*(: bad row|; mend it), or set data.on_bad_row=skip|mend it"):
        select(shards, tmp_path)  # pieces of which rows were skipped are not taken where that is not allowed


@pytest.mark.parametrize(("what", "kind", "data", "words", "lost"), SKIPPED, ids=names(SKIPPED))
def test_the_target_too(
    make: Callable[[str, bytes], Shards], tmp_path: Path, what: str, kind: str, data: bytes, words: str, lost: tuple[int, str]
) -> None:
    make(kind, data)
    shards = Shards(str(tmp_path / "source" / "a.jsonl"), str(tmp_path / "source" / "[bc]*"))
    words = words.replace(" row 0: the file is empty", "").split(": the file is empty")[0].removesuffix(":1")
    if (what, kind) == ("no strings", ".jsonl"):
        words = "column 'text' holds int64, not strings"
    with pytest.raises(InputError, match=words):
        select(shards, tmp_path)
    if lost[1] == "empty_file" or what == "no strings":
        return
    _, record = select(replace(shards, on_bad_row="skip"), tmp_path)
    assert record["dropped"]["target"] == {lost[1]: lost[0]}


@pytest.mark.parametrize("sample", ["source", "sample.txt", "long.txt"])
def test_nothing_is_long_enough(make: Callable[[str, bytes], Shards], tmp_path: Path, sample: str) -> None:
    shards = replace(make(".txt", b"short\n"), sample_from=str(tmp_path / sample), min_characters=200)
    (tmp_path / "mine.txt").write_bytes(encode(".txt", [f"a target {i} {'x' * 200}" for i in range(12)]))
    (tmp_path / "long.txt").write_bytes(encode(".txt", ["y" * 300]))
    count = {"source": 31, "sample.txt": 30, "long.txt": 31}[sample]
    with pytest.raises(
        InputError, match=rf"no documents left \(dropped: {count} short\); give source= other data,? or lower data.min_char"
    ):
        select(shards, tmp_path)


def test_lines_without_the_key_are_bad_rows_of_a_file_that_has_it(make: Callable[[str, bytes], Shards], tmp_path: Path) -> None:
    """However they lie in blocks: here each is one, of a piece that holds others."""
    from dsel.data.format import piece

    data = lines(*({"body": "x" * 40} for _ in range(9)), {"text": "a text"}, *({"body": "x" * 40} for _ in range(9)))
    shards = replace(make(".jsonl", data), on_bad_row="skip", piece_bytes=1 << 20)
    for name, block_bytes in (("large", 1 << 20), ("small", 30)):
        (tmp_path / name).mkdir()
        read, piece.read_piece.__defaults__ = piece.read_piece.__defaults__, ((), block_bytes)
        try:
            rows, record = select(shards, tmp_path / name, budget=ALL)
        finally:
            piece.read_piece.__defaults__ = read
        assert (len(rows), record["dropped"]["source"]) == (len(GOOD) + 1, {"empty": 18})


def test_a_column_that_is_bad_only_in_a_chosen_row(make: Callable[[str, bytes], Shards], tmp_path: Path) -> None:
    """To score, the text is read alone; what cannot be written then is named, not left out."""
    raw = pa.array([b"fine", b"n\xffo"], pa.binary())
    shards = make(
        ".parquet", parquet(["a text", "a much longer text that is the best" * 9], note=pa.StringArray.from_buffers(2, *raw.buffers()[1:]))
    )
    with pytest.raises(
        InputError, match=r"bad.parquet row 1: is chosen, and cannot be read with all its columns: invalid UTF-8 in column 'note'"
    ):
        select(shards, tmp_path)


def test_columns_that_differ_from_file_to_file(make: Callable[[str, bytes], Shards], tmp_path: Path) -> None:
    """Numbers of JSON beside strings of CSV become strings; fields of objects are put together; what is missing is null."""
    shards = make(".csv", b"text,n,odd\nx y z,007,1\n")
    for name, meta in (("d", {"meta": {"a": 1}}), ("e", {"meta": {"b": "two"}, "more": [1, 2]})):
        (tmp_path / "source" / f"{name}.jsonl").write_bytes(lines({"text": f"text {name}", "n": 5, **meta}))
    for kind in (".jsonl", ".parquet"):
        rows, _ = select(replace(shards), tmp_path, budget=ALL, kind=kind)
        by_text = {row["text"]: row for row in rows}
        assert by_text["x y z"]["n"] == "007"
        assert by_text["text e"]["n"] == by_text[GOOD[5]]["n"] == "5"
        assert by_text["text d"]["meta"] == {"a": 1, "b": None}
        assert by_text["text e"]["meta"] == {"a": None, "b": "two"}
        assert (by_text["text e"]["more"], by_text["text d"]["more"]) == ([1, 2], None)
    (tmp_path / "source" / "f.jsonl").write_bytes(lines({"text": "text f", "meta": "plain"}))
    with pytest.raises(
        InputError, match=r"source: column 'meta' holds .*struct<.* and string; give it one type in all files, or take it out"
    ):
        select(replace(shards), tmp_path, budget=ALL)


@pytest.mark.parametrize("kind", [".jsonl", ".jsonl.gz", ".csv", ".txt", ".parquet"])
def test_a_line_of_megabytes(make: Callable[[str, bytes], Shards], tmp_path: Path, kind: str) -> None:
    long = "word " * 1_000_000
    shards = replace(make(kind, encode(kind, ["before", long, "after"])), piece_bytes=1 << 20)
    rows, record = select(shards, tmp_path, budget=ALL)
    assert rows[0]["text"] == long
    assert record["read"]["source"] == len(GOOD) + 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", [".jsonl", ".jsonl.zst", ".csv", ".txt", ".parquet"])
def test_a_line_of_a_hundred_megabytes(make: Callable[[str, bytes], Shards], tmp_path: Path, kind: str) -> None:
    long = "word " * 20_000_000
    shards = replace(make(kind, encode(kind, ["before", long, "after"])), piece_bytes=1 << 26)
    rows, record = select(shards, tmp_path, budget=ALL, kind=".parquet")
    assert rows[0]["text"] == long
    assert [record["read"]["source"], len(rows)] == [len(GOOD) + 3] * 2


def test_the_sample_does_not_hang_on_the_pieces_and_holds_each_text_once(make: Callable[[str, bytes], Shards], tmp_path: Path) -> None:
    shards = replace(make(".txt", "".join(f"{text}\n" for text in [*TEXTS, *[TEXTS[0]] * 500]).encode()), sample_from=None, sample=50)
    tables = [replace(shards, piece_bytes=size).read().source["text"].to_pylist() for size in (100, 3000, 1 << 26)]
    assert tables[0] == tables[1] == tables[2]
    assert len(set(tables[0])) == len(tables[0]) == 50
    assert replace(shards, seed=1).read().source["text"].to_pylist() != tables[0]


def test_the_sample_of_many_files_goes_on_until_it_finds_a_document(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for number in range(160):
        (tmp_path / "source" / f"{number}.txt").write_bytes(b"short\n" if number != 17 else b"a document that is long enough\n")
    (tmp_path / "mine.txt").write_bytes(encode(".txt", [f"a target {i}, long enough" for i in range(12)]))
    found = {
        Shards(str(tmp_path / "source"), str(tmp_path / "mine.txt"), min_characters=20, seed=seed).read().source.num_rows
        for seed in range(12)  # in some, it is among the parts beyond those that are read in any case
    }
    assert found == {1}


def test_the_sample_does_not_hang_on_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dsel.data import shards

    (tmp_path / "source").mkdir()
    for number in range(150):
        (tmp_path / "source" / f"{number}.txt").write_text(f"document {number}\n")
    (tmp_path / "mine.txt").write_bytes(encode(".txt", ["a target"]))
    found = []
    for cores in (1, 5, 48):
        monkeypatch.setattr(shards, "num_cores", lambda cores=cores: cores)
        found.append(Shards(str(tmp_path / "source"), str(tmp_path / "mine.txt")).read().source["text"].to_pylist())
    assert len(found[0]) == 128
    assert found[0] == found[1] == found[2]


def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"b\xe9.txt")).write_bytes(b"a text\n")
    with pytest.raises(InputError, match=r"the name of '.*b.udce9.txt' is not UTF-8; rename the file"):
        Shards(str(tmp_path), str(tmp_path)).identity()


@pytest.mark.parametrize("key", ["sample", "piece_bytes"])
def test_options(key: str) -> None:
    with pytest.raises(InputError, match=rf"data.{key}=0: must be at least 1"):
        Shards("a", "b", **{key: 0})
