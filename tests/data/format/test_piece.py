"""Files read in pieces and blocks against the same files read whole."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsel.data.format.file import parse
from dsel.data.format.piece import Block, cut, read_piece
from dsel.data.format.split import split
from dsel.data.text import Columns
from dsel.error import InputError

LETTERS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)


def encode(kind: str, texts: list[str]) -> bytes:
    if kind.startswith(".parquet"):
        sink = io.BytesIO()
        pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), sink, row_group_size=3)
        return sink.getvalue()
    if kind.startswith(".csv"):
        quoted = ['"' + text.replace('"', '""') + '"' for text in texts]
        return ("\ntext\n" + "".join(f"{text}\n" for text in quoted)).encode()
    lines = [json.dumps({"text": text}) for text in texts]
    data = "\n".join(lines).encode()
    return gzip.compress(data) if kind.endswith(".gz") else data


def rows_of(path: Path, piece_bytes: int, block_bytes: int) -> tuple[list[int], list[str]]:
    numbers, texts, above = [], [], 0
    for piece in cut(path, piece_bytes):
        blocks: list[Block] = list(read_piece(piece, Columns(), block_bytes=block_bytes))
        for block in blocks:
            numbers += (block.rows.numbers + above).tolist()
            texts += block.rows.table["text"].to_pylist()
        above += sum(block.rows.num_read for block in blocks)
    return numbers, texts


@pytest.mark.parametrize("kind", [".jsonl", ".jsonl.gz", ".csv", ".parquet"])
@settings(deadline=None, max_examples=25)
@given(texts=st.lists(LETTERS, min_size=1, max_size=12), piece_bytes=st.integers(1, 300), block_bytes=st.integers(1, 300))
def test_pieces_and_blocks_give_every_row_once_in_order(
    tmp_path_factory: pytest.TempPathFactory, kind: str, texts: list[str], piece_bytes: int, block_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("piece") / f"x{kind}"
    path.write_bytes(encode(kind, texts))
    whole = (
        texts if kind == ".parquet" else parse(path.read_bytes(), path, Columns()).table["text"].to_pylist() if kind == ".csv" else texts
    )
    assert rows_of(path, piece_bytes, block_bytes) == (list(range(len(whole))), whole)


@pytest.mark.parametrize("piece_bytes", [1, 30, 1000])
@pytest.mark.parametrize("block_bytes", [1, 30, 1000])
@pytest.mark.parametrize(
    ("name", "data", "line"),
    [
        ("x.jsonl", b'{"text": "a"}\n\n{"text": "b"}\n{"text": "c\n{"text": "d"}\n', 4),
        ("x.txt", b"a\n\nb\nc\xff\nd\n", 4),
        ("x.csv", b'text,n\n"a\nb",1\nc\nd,2\n', 4),
    ],
)
def test_a_bad_row_is_named_by_its_line_in_the_file(
    tmp_path: Path, piece_bytes: int, block_bytes: int, name: str, data: bytes, line: int
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    blocks = [block for piece in cut(path, piece_bytes) for block in read_piece(piece, Columns(), block_bytes=block_bytes)]
    assert [bad.where for block in blocks for bad in block.rows.bad] == [f"{path}:{line}"]
    if name == "x.txt":
        empty = [
            bad.where
            for b in blocks
            for n, t in zip(b.rows.numbers, b.rows.table["text"], strict=True)
            if not t.as_py()
            for bad in b.bad(n[None], "empty", "")
        ]
        assert empty == [f"{path}:2"]


def test_rows_of_parquet_are_named_by_their_number_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(encode(".parquet", list("abcdefgh")))
    pieces = cut(path, 1)
    assert [(p.start, p.stop) for p in pieces] == [(0, 1), (1, 2), (2, 3)]
    (block,) = read_piece(pieces[2], Columns())
    assert [bad.where for bad in block.bad(block.rows.numbers, "empty", "")] == [f"{path} row 6", f"{path} row 7"]


def test_a_file_that_changes_or_goes_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"a\nb\n")
    (piece,) = cut(path)
    path.write_bytes(b"a\nb\nc\n")
    with pytest.raises(InputError, match=r"x.txt: changed while it was in use \(4 bytes before, 6 now\); run again"):
        list(read_piece(piece, Columns()))
    path.unlink()
    with pytest.raises(InputError, match=r"x.txt: cannot be read any more \(No such file"):
        list(read_piece(piece, Columns()))


def test_a_row_much_longer_than_a_block(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"a\n" + b"b" * 3_000_000 + b"\nc\n")
    assert [len(t) for t in rows_of(path, 100_000, 1000)[1]] == [1, 3_000_000, 1]


@pytest.mark.parametrize(("name", "line"), [("x.txt", 4), ("x.csv", 4)])
def test_a_row_without_end_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, line: int) -> None:
    from dsel.data.format import piece, split

    for module in (piece, split):
        monkeypatch.setattr(module, "MOST_ROW_BYTES", 5000)
    path = tmp_path / name
    path.write_bytes(b"text\na\nb\n" + (b'"' + b"c\n" * 5000 if name == "x.csv" else b"c " * 5000))
    blocks = (block for piece in cut(path, 100) for block in read_piece(piece, Columns(), block_bytes=100))
    with pytest.raises(InputError, match=rf"{name}:{line}: a row of over 5000 bytes"):
        list(blocks)


@given(st.lists(st.sampled_from([b"a", b'"', b"\n"]), max_size=40).map(b"".join), st.integers(1, 9), st.booleans())
def test_blocks_end_where_rows_do(data: bytes, size: int, is_csv: bool) -> None:
    blocks = list(split([data[at : at + size] for at in range(0, len(data), size)], is_csv))
    assert b"".join(blocks) == data
    ends = [at for at in range(1, len(data) + 1) if data[at - 1 : at] == b"\n" and not (is_csv and data[:at].count(b'"') % 2)]
    assert {sum(map(len, blocks[: n + 1])) for n in range(len(blocks) - 1)} <= set(ends)
    if ends and data[ends[-1] :]:
        assert blocks[-1] == data[ends[-1] :]
