from __future__ import annotations

import csv
import gzip
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from dsel.corpus import Split, prepare
from dsel.data.files import Files
from dsel.data.format import csv as csv_format
from dsel.data.format import jsonl as jsonl_format
from dsel.data.format import txt as txt_format
from dsel.data.text import Columns
from dsel.error import InputError

RECORDS = [{"text": f"Document {i}: Straße, 東京, \U0001f600", "n": i, "domain": "ab"[i % 2]} for i in range(7)]
COMPRESSORS = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


def encode(kind: str, records: list[dict[str, Any]] = RECORDS) -> bytes:
    if kind == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(records), sink)
        return sink.getvalue()
    if kind in ("jsonl", "json"):
        return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode()
    if kind == "txt":
        return "".join(r["text"] + "\n" for r in records).encode()
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(records[0]))
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def put(path: Path, data: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(put(tmp_path / "source.jsonl", encode("jsonl")), put(tmp_path / "target.txt", b"a\nb\nc\n"))


@pytest.mark.parametrize("compression", COMPRESSORS)
@pytest.mark.parametrize("kind", ["parquet", "jsonl", "json", "csv", "txt"])
def test_formats_agree(files: Files, tmp_path: Path, kind: str, compression: str) -> None:
    path = put(tmp_path / f"x.{kind}{compression}", COMPRESSORS[compression](encode(kind)))
    table = replace(files, source=path).read().source
    assert table["text"].to_pylist() == [r["text"] for r in RECORDS]
    assert table["dsel_row"].to_pylist() == list(range(7))
    if kind != "txt":
        assert table.drop_columns(["dsel_row"]).to_pylist() == RECORDS


@pytest.mark.parametrize("kind", ["jsonl", "csv", "txt"])
def test_byte_order_mark_and_crlf(files: Files, tmp_path: Path, kind: str) -> None:
    data = b"\xef\xbb\xbf" + encode(kind).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    table = replace(files, source=put(tmp_path / f"x.{kind}", data)).read().source
    assert table["text"].to_pylist() == [r["text"] for r in RECORDS]


def test_many_files(files: Files, tmp_path: Path) -> None:
    put(tmp_path / "d/b.csv", b"text,extra\nfrom b,5\n\n")
    put(tmp_path / "d/a.txt", b"one\ntwo\n")
    put(tmp_path / "d/sub/c.jsonl", b'{"text": "from c", "id": 7}\n')
    put(tmp_path / "d/README.md", b"not data")
    put(tmp_path / "d/.hidden.txt", b"hidden\n")
    folder = replace(files, source=str(tmp_path / "d")).read().source
    globbed = replace(files, source=[str(tmp_path / name) for name in ("d/**/*.[tj]*", "d/b.csv", "d/a.txt")])
    assert folder.equals(globbed.read().source)
    assert folder["text"].to_pylist() == ["one", "two", "from b", "from c"]
    assert [Path(p).name for p in folder["dsel_file"].to_pylist()] == ["a.txt", "a.txt", "b.csv", "c.jsonl"]
    assert folder["dsel_row"].to_pylist() == [0, 1, 2, 3]
    assert folder["extra"].to_pylist() == [None, None, 5, None]
    assert folder["id"].to_pylist()[3] == "7"
    assert all(len(i) == 16 for i in folder["id"].to_pylist()[:3])


def test_other_column_names(files: Files, tmp_path: Path) -> None:
    record = {"body": "hello", "text": "mine", "uid": 5, "lang": "de", "dsel_planted": True}
    path = put(tmp_path / "x.jsonl", encode("jsonl", [record]))
    target = put(tmp_path / "y.jsonl", encode("jsonl", [{"body": "b"}]))
    made = Files(path, target, text_column="body", id_column="uid", domain_column="lang").read()
    (row,) = made.source.to_pylist()
    assert row == {
        "body": "hello", "text": "hello", "text_original": "mine", "uid": 5, "id": "5",
        "lang": "de", "domain": "de", "dsel_row": 0,
    }  # fmt: skip
    assert made.target.to_pylist() == [{"body": "b", "text": "b", "dsel_row": 0}]


def test_strings_stay_strings(files: Files, tmp_path: Path) -> None:
    path = put(tmp_path / "x.csv", b"text,id,domain\n1,007,2020-01-01\n2,008,2020-01-02\n")
    assert replace(files, source=path).read().source.to_pylist()[0] == {
        "text": "1",
        "id": "007",
        "domain": "2020-01-01",
        "dsel_row": 0,
    }
    path = put(tmp_path / "x.jsonl", b'{"text": "2020-01-01", "day": "2020-01-01"}\n')
    assert replace(files, source=path).read().source.to_pylist()[0] == {
        "text": "2020-01-01",
        "day": "2020-01-01",
        "dsel_row": 0,
    }


def test_rows_longer_than_a_block(files: Files, tmp_path: Path) -> None:
    texts = ["x " * (1 << 23) + "y", "short"]
    for kind in ("jsonl", "csv"):
        path = put(tmp_path / f"x.{kind}", encode(kind, [{"text": t} for t in texts]))
        assert replace(files, source=path).read().source["text"].to_pylist() == texts


def bad_parquet() -> bytes:
    strings = pa.StringArray.from_buffers(3, pa.py_buffer(np.array([0, 1, 2, 3], np.int32)), pa.py_buffer(b"a\xffb"))
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": strings}), sink)
    return sink.getvalue()


ROWS: list[tuple[str, bytes, str, str, list[int]]] = [  # file, content, place, reason, rows that stay
    ("x.jsonl", b'{"text": "a"}\n{"text":\n{"text": "b"}\n', "x.jsonl:2: broken JSON", "broken_json", [0, 2]),
    ("x.jsonl", b'\n{"text": "a"}\n\n{"text": "c"} {}\n', "x.jsonl:4: broken JSON", "broken_json", [0]),
    (
        "x.jsonl",
        b'{"text": "a"}\n{"text": "a", "text": "b"}\n',
        "x.jsonl:2: broken JSON (key 'text' stands",
        "broken_json",
        [0],
    ),
    ("x.jsonl", b'{"text": "a"}\n["b"]\n', "x.jsonl:2: not a JSON object but ['b']", "not_an_object", [0]),
    ("x.json", b'[{"text": "a"}]\n{"text": "b"}', "x.json:1: not a JSON object", "not_an_object", [1]),
    ("x.jsonl", b'{"text": "a"}\n{"text": 5}\n', "x.jsonl:2: 'text' is 5, a int", "not_a_string", [0]),
    ("x.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', "x.jsonl:2: invalid UTF-8 (byte 0xff at 10", "invalid_utf8", [0]),
    ("x.jsonl", b'{"text": "a"}\n{"text": "\\ud800"}\n', "x.jsonl:2: half of a surrogate pair", "invalid_utf8", [0]),
    (
        "x.jsonl",
        b'{"text": "a"}\n\n{"text": null}\n{"text": " "}\n{}\n',
        "x.jsonl:3: 'text' is empty (2 more",
        "empty",
        [0],
    ),
    ("x.csv", b"text,n\na,1\n\nb\nc,2\n", "x.csv:4: 1 fields where the header has 2, in 'b", "ragged", [0, 2]),
    ("x.csv", b'text,n\n"a\nb",1\nb,2,3\n', "x.csv:4: 3 fields", "ragged", [0]),
    ("x.csv", b"text,n\na,1\n\xff,2\n", "x.csv:3: invalid UTF-8 (byte 0xff)", "invalid_utf8", [0]),
    ("x.csv", b"text,n\na,1\nb,\xff\n", "x.csv:3: invalid UTF-8", "invalid_utf8", [0]),
    ("x.csv", b'text,n\r\n"a\r\nb",1\r\n  ,2\r\n', "x.csv:4: 'text' is empty", "empty", [0]),
    ("x.txt", b"a\n\n \t\nb\n", "x.txt:2: 'text' is empty (1 more", "empty", [0, 3]),
    ("x.txt", b"a\nb\xff\nc", "x.txt:2: invalid UTF-8 (byte 0xff at 1", "invalid_utf8", [0, 2]),
    (
        "x.parquet",
        bad_parquet(),
        "x.parquet row 1: invalid UTF-8 in column 'text' (byte 0xff at 0)",
        "invalid_utf8",
        [0, 2],
    ),
    ("x.parquet", encode("parquet", [{"text": "a"}, {"text": None}]), "x.parquet row 1: 'text' is empty", "empty", [0]),
]


@pytest.mark.parametrize(("name", "data", "place", "reason", "kept"), ROWS, ids=[f"{r[0]}-{r[3]}-{i}" for i, r in enumerate(ROWS)])
def test_bad_rows(files: Files, tmp_path: Path, name: str, data: bytes, place: str, reason: str, kept: list[int]) -> None:
    path = put(tmp_path / name, data)
    message = complaint(replace(files, source=path))
    assert str(tmp_path / place) in message
    assert "data.on_bad_row=skip" in message
    docs = replace(files, source=path, on_bad_row="skip").read()
    assert docs.source["dsel_row"].to_pylist() == kept
    assert set(docs.dropped["source"]) == {reason}
    assert not docs.dropped["target"]
    assert docs.listed[0] == f"{tmp_path / place.split(': ')[0]} {reason}"
    assert len(docs.listed) == docs.dropped["source"][reason]


def complaint(files: Files) -> str:
    with pytest.raises(InputError) as error:
        files.read()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_rows_count_on_over_bad_ones_and_files(files: Files, tmp_path: Path) -> None:
    put(tmp_path / "d/a.txt", b"a\n\nb\n")
    put(tmp_path / "d/b.jsonl", b'{"text": 1}\n{"text": "c"}\n{"text": ""}\n{"text": "d"}\n')
    docs = replace(files, source=str(tmp_path / "d"), on_bad_row="skip", min_characters=1).read()
    assert docs.source["dsel_row"].to_pylist() == [0, 2, 4, 6]
    assert docs.dropped["source"] == {"empty": 2, "not_a_string": 1}


FILES: list[tuple[str, bytes, list[str]]] = [
    ("x.jsonl", b'{"a": 1, "b": 2}\n', ["no column 'text'", "a, b", "data.text_column="]),
    ("x.csv", b"a,b\n1,2\n", ["no column 'text'", "a, b", "data.text_column="]),
    ("x.jsonl", b'{"text": 1}\n{"text": 2}\n', ["holds int64", "data.text_column="]),
    ("x.jsonl", b'{"text": 1}\n{"text": [2]}\n', ["x.jsonl:1", "'text' is 1", "data.text_column="]),
    ("x.parquet", encode("parquet", [{"text": [1]}]), ["holds list", "data.text_column="]),
    ("x.jsonl", b'{"text": "a", "id": [1]}\n', ["'id' holds list", "data.id_column="]),
    (
        "x.jsonl",
        b'{"text": "a", "n": 1}\n\n{"text": "b", "n": "x"}\n',
        ["x.jsonl:3", "'n' changed from number to string"],
    ),
    ("x.csv", b'text,n\na,1\n"b,2\nc,3\n', ["x.csv:3", "never closed"]),
    ("x.csv", b"text,text\na,b\n", ["x.csv:1", "'text' twice"]),
    ("x.csv", b"text,n\n", ["is empty"]),
    ("x.txt", b"", ["is empty"]),
    ("x.jsonl", b"\xef\xbb\xbf\n\n", ["is empty"]),
    ("x.txt.gz", gzip.compress(b""), ["is empty"]),
    ("x.txt", b"\n", ["is empty"]),
    ("x.txt.gz", gzip.compress(b"hello\n" * 99)[:-9], ["x.txt.gz", "Truncated"]),
    ("x.txt.zst", zstandard.compress(b"hello\n" * 99)[:-9], ["x.txt.zst", "Truncated"]),
    ("x.txt.gz", b"hello", ["x.txt.gz", "cannot be read"]),
    ("x.txt.zst", b"hello", ["x.txt.zst", "cannot be read"]),
    ("x.parquet", encode("parquet")[:-9], ["x.parquet", "not a whole Parquet file"]),
    ("x.parquet", b"hello", ["x.parquet", "not a whole Parquet file"]),
    ("x.xlsx", b"a", ["unknown extension '.xlsx'", ".parquet, .jsonl", ".zst", "source="]),
    ("x.tsv.gz", b"a", ["unknown extension", "source="]),
]


@pytest.mark.parametrize("policy", ["fail", "skip"])
@pytest.mark.parametrize(("name", "data", "words"), FILES, ids=[f"{f[0]}-{i}" for i, f in enumerate(FILES)])
def test_bad_files(files: Files, tmp_path: Path, name: str, data: bytes, words: list[str], policy: Any) -> None:
    message = complaint(replace(files, source=put(tmp_path / name, data), on_bad_row=policy))
    assert all(word in message for word in [name, *words]), message


@pytest.mark.parametrize("side", ["source", "target"])
def test_nothing_there(files: Files, tmp_path: Path, side: str) -> None:
    (tmp_path / "empty").mkdir()
    for spec, word in (("no.txt", "no such file"), ("*.no", "no file matches"), ("empty", "folder is empty")):
        path = str(tmp_path / spec)
        message = complaint(replace(files, **{side: path}))
        assert message.startswith(f"{side}={path}: ")
        assert word in message
        with pytest.raises(InputError, match=word):
            replace(files, **{side: path}).identity()
    assert f"{side}=None" in complaint(replace(files, **{side: None}))
    assert f"{side}=[]" in complaint(replace(files, **{side: []}))


def test_named_columns_must_be_there(files: Files) -> None:
    assert "set data.id_column=" in complaint(replace(files, id_column="key"))
    assert "set data.domain_column=" in complaint(replace(files, domain_column="kind"))


def test_types_that_conflict_name_both_files(files: Files, tmp_path: Path) -> None:
    a, b = put(tmp_path / "a.jsonl", b'{"text": "a", "n": 1}'), put(tmp_path / "b.jsonl", b'{"text": "b", "n": "x"}')
    message = complaint(replace(files, source=[a, b]))
    assert all(word in message for word in (a, b, "'n'", "int64", "string"))


def test_short_texts_are_counted_not_refused(files: Files) -> None:
    docs = replace(files, target=put(Path(files.source).parent / "t.txt", b"ab\nabc\nabcd\n"), min_characters=3).read()
    assert docs.target["text"].to_pylist() == ["abc", "abcd"]
    assert docs.dropped["target"] == {"short": 1}


def test_a_random_part_is_drawn_by_seed_and_counted(files: Files, tmp_path: Path) -> None:
    draws = [replace(files, max_documents=3, max_target=2, seed=seed).read() for seed in (0, 0, 1, 2)]
    assert [d.source.num_rows for d in draws] == [3] * 4
    assert draws[0].source.equals(draws[1].source)
    assert len({tuple(d.source["dsel_row"].to_pylist()) for d in draws}) > 1
    assert draws[0].dropped == {"source": {"over_limit": 4}, "target": {"over_limit": 1}}
    whole = files.read().source
    assert draws[0].source["text"].to_pylist() == whole.take(draws[0].source["dsel_row"])["text"].to_pylist()
    assert replace(files, max_documents=7).read().source.equals(whole)


@pytest.mark.parametrize("column", ["text", "body"])
def test_models_see_the_beginning_and_the_whole_is_kept(files: Files, tmp_path: Path, column: str) -> None:
    records = [{column: r["text"]} for r in RECORDS]
    source = put(tmp_path / "cut.jsonl", encode("jsonl", records))
    read = Files(source, source, text_column=column, max_characters=5).read()
    assert read.source["text"].to_pylist() == ["Docum"] * 7
    assert read.source[read.facts["columns"][column]].to_pylist() == [r["text"] for r in RECORDS]


@pytest.mark.parametrize("key", ["max_documents", "max_target", "max_characters"])
def test_limits_that_leave_nothing(files: Files, key: str) -> None:
    with pytest.raises(InputError, match=f"data.{key}=0: must be above 0, or null for no limit"):
        replace(files, **{key: 0})


def test_identity_follows_content(files: Files) -> None:
    before = files.identity()
    assert json.loads(json.dumps(before)) == before == replace(files).identity()
    assert replace(files, min_characters=2).identity() != before
    put(Path(files.target[0] if isinstance(files.target, list) else str(files.target)), b"a\nb\nd\n")
    assert files.identity() != before


def test_goes_through_prepare(files: Files, tmp_path: Path) -> None:
    target = put(tmp_path / "t.txt", "".join(f"target {i}\n" for i in range(40)).encode())
    put(tmp_path / "many/a.jsonl", encode("jsonl"))
    put(tmp_path / "many/b.csv", b"text,id\nx,1\ny,2\n")
    (tmp_path / "out").mkdir()
    record = prepare(Files(str(tmp_path / "many"), target).read(), Split(planted=2), tmp_path / "out")
    assert record["read"] == {"source": 9, "target": 40}
    assert record["parts"]["source"]["documents"] == 11


TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=6)


@given(TEXTS, st.booleans())
@settings(max_examples=60, deadline=None)
def test_jsonl_round_trip(texts: list[str], ascii_only: bool) -> None:
    data = "".join(json.dumps({"text": t}, ensure_ascii=ascii_only) + "\n" for t in texts).encode()
    for rows in (jsonl_format.parse(data, "x", Columns()), jsonl_format._parse_lines(data, "x", Columns(), int)):
        assert (rows.table["text"].to_pylist(), rows.num_read, list(rows.bad)) == (texts, len(texts), [])


@given(TEXTS)
@settings(max_examples=60, deadline=None)
def test_csv_round_trip(texts: list[str]) -> None:
    data = encode("csv", [{"text": t, "n": i} for i, t in enumerate(texts)])
    header = ["text", "n"]
    for rows in (csv_format.parse(data, "x", Columns()), csv_format._parse_rows(data, "x", Columns().names, header, 0)):
        assert (rows.table["text"].to_pylist(), rows.num_read, list(rows.bad)) == (texts, len(texts), [])
    assert len(csv_format.lines(data)) == len(texts)


@given(TEXTS)
@settings(max_examples=60, deadline=None)
def test_txt_round_trip(texts: list[str]) -> None:
    texts = [t.replace("\n", "").rstrip("\r") for t in texts]
    data = "".join(f"{t}\n" for t in texts).encode()
    for rows in (txt_format.parse(data, "x", Columns()), txt_format._parse_lines(data, "x", Columns(), 0)):
        assert rows.table["text"].to_pylist() == texts


@given(st.binary(max_size=60), st.sampled_from([csv_format, jsonl_format, txt_format]))
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_rows_or_one_line(data: bytes, module: Any) -> None:
    try:
        rows = module.parse(b"text\n" + data, "x", Columns())
    except InputError:
        return
    rows.table.validate(full=True)
    assert rows.table.num_rows == len(rows.numbers) == rows.num_read - len(rows.bad)
    assert len(module.lines(b"text\n" + data)) >= rows.num_read
