"""data=files and data=hub with pairs of sentences, in the formats that parallel corpora come in."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsel.data.files import Files
from dsel.data.hub import Hub
from dsel.error import InputError

PAIRS = [("A cat sleeps.", "Eine Katze schläft."), ("Two dogs", "Zwei Hunde"), ("naïve\u2028text", "naiver Text"), ("Berlin", "Berlin")]


def po(pairs: list[tuple[str, str]]) -> str:
    head = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n'
    return head + "\n".join(f"msgid {json.dumps(a, ensure_ascii=False)}\nmsgstr {json.dumps(b, ensure_ascii=False)}\n" for a, b in pairs)


def write(folder: Path, kind: str, pairs: list[tuple[str, str]] = PAIRS, name: str = "pool") -> Path:
    """The pairs in a file of that kind, with sides named en and de."""
    path = folder / f"{name}.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"en": [a for a, _ in pairs], "de": [b for _, b in pairs]}), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"de": b, "en": a}) + "\n" for a, b in pairs), encoding="utf-8")
    elif kind == "tsv":
        path.write_text("".join(f"{a}\t{b}\tCC-BY\n" for a, b in pairs), encoding="utf-8")
    elif kind == "csv":
        path.write_text("de,en\n" + "".join(f'"{b}","{a}"\n' for a, b in pairs), encoding="utf-8")
    elif kind == "po":
        path.write_text(po(pairs), encoding="utf-8")
    elif kind == "en.gz":
        for side, at in (("en", 0), ("de", 1)):
            (folder / f"{name}.{side}.gz").write_bytes(gzip.compress("".join(f"{pair[at]}\n" for pair in pairs).encode()))
    else:
        for side, at in (("en", 0), ("de", 1)):
            (folder / f"{name}.{side}").write_text("".join(f"{pair[at]}\n" for pair in pairs), encoding="utf-8")
    return path


def files(path: Path, **options: Any) -> Files:
    return Files(str(path), str(path), src_column="en", tgt_column="de", **options)


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "tsv", "csv", "po", "en", "en.gz"])
def test_every_format_gives_the_same_pairs(kind: str, tmp_path: Path) -> None:
    data = files(write(tmp_path, kind))
    found = data.read()
    rows = found.source.to_pylist()
    assert [(row["src"], row["tgt"]) for row in rows] == PAIRS
    assert [row["text"] for row in rows] == ["\t".join(pair) for pair in PAIRS]
    assert [row["dsel_row"] for row in rows] == [0, 1, 2, 3]
    assert found.facts["same_on_both_sides"] == 1
    before = data.identity()
    write(tmp_path, kind, [*PAIRS[:-1], ("Berlin", "Bonn")])  # of two files it is the second that changes
    assert files(tmp_path / f"pool.{kind}").identity() != before


@given(
    st.lists(st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\r\n\t", exclude_categories=["Cc"]), min_size=1)] * 2))
)
@settings(max_examples=50)
def test_any_text_comes_through_aligned_files_and_tsv(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]) -> None:
    pairs = [(a, b) for a, b in pairs if a.strip() and b.strip()] + [("last", "letztes")]
    folder = tmp_path_factory.mktemp("pairs")
    for kind in ("en", "tsv"):
        found = files(write(folder, kind, pairs)).read().source
        assert list(zip(found["src"].to_pylist(), found["tgt"].to_pylist(), strict=True)) == pairs


def test_tsv_with_a_header_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "pool.tsv"
    path.write_text("id\tde\ten\n7\tHund\tdog\n8\tKatze\n9\tMaus\tmouse\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"pool.tsv:3: 2 fields where there should be 3"):
        files(path).read()
    found = files(path, on_bad_row="skip").read()
    assert found.source.select(["src", "tgt", "id", "dsel_row"]).to_pylist() == [
        {"src": "dog", "tgt": "Hund", "id": "7", "dsel_row": 0},
        {"src": "mouse", "tgt": "Maus", "id": "9", "dsel_row": 2},
    ]
    assert found.dropped["source"] == {"ragged": 1}


def test_a_catalogue_with_plurals_and_marks(tmp_path: Path) -> None:
    path = tmp_path / "de.po"
    plural = '\n#, fuzzy\nmsgid "one file"\nmsgid_plural "%d files"\nmsgstr[0] "eine Datei"\nmsgstr[1] "%d Dateien"\n'
    path.write_text(po([("Open", "Öffnen"), ("Close", "")]) + plural, encoding="utf-8")
    rows = files(path).read().source.to_pylist()
    assert [(row["src"], row["tgt"], row["fuzzy"]) for row in rows] == [
        ("Open", "Öffnen", False),
        ("one file", "eine Datei", True),
        ("%d files", "%d Dateien", True),
    ]


def test_fields_of_a_column(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(json.dumps({"translation": {"en": a, "de": b}}) + "\n" for a, b in PAIRS), encoding="utf-8")
    names = {"src_column": "translation.en", "tgt_column": "translation.de"}
    assert Files(str(path), str(path), **names).read().source["tgt"].to_pylist() == [b for _, b in PAIRS]  # type: ignore[arg-type]
    hub = Hub(str(tmp_path), str(tmp_path), **names)  # type: ignore[arg-type]
    assert hub.read().source["src"].to_pylist() == [a for a, _ in PAIRS]
    assert hub.read().facts["same_on_both_sides"] == 1


def unequal(folder: Path) -> Path:
    path = write(folder, "en")
    (folder / "pool.de").write_text("eins\nzwei\n", encoding="utf-8")
    return path


def alone(folder: Path) -> Path:
    path = write(folder, "en")
    (folder / "pool.de").unlink()
    return path


def text(folder: Path, name: str, content: str) -> Path:
    (folder / name).write_text(content, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (unequal, r"pool\.en: 4 lines, and .*pool\.de: 2; line n of one must be the translation"),
        (alone, r"pool\.en: no pool\.de beside it"),
        (lambda folder: write(folder, "jsonl", [("a", " "), ("b", "c")]), r"pool\.jsonl:1: 'en' or 'de' is empty"),
        (lambda folder: write(folder, "en", [("a", "b"), ("", "c")]), r"pool\.en:2: 'en' or 'de' is empty"),
        (lambda folder: text(folder, "a.jsonl", '{"en": "x"}\n'), r"a\.jsonl: no column 'de' \(columns: en\); set data\.tgt_column="),
        (lambda folder: text(folder, "a.jsonl", '{"en": "x", "de": 3}\n'), r"column 'de' holds int64, not strings; set data\.tgt_column="),
        (lambda folder: text(folder, "a.tsv", "only one field\n"), r"a\.tsv:1: 1 fields where there should be 2"),
        (lambda folder: text(folder, "a.po", "msgid what\n"), r"a\.po: is no catalogue of gettext"),
        (lambda folder: text(folder, "a.en.txt", "x\n"), r"no column 'en' \(columns: text\)"),
    ],
)
def test_what_cannot_be_pairs(make: Callable[[Path], Path], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        files(make(tmp_path)).read()


def test_one_side_without_the_other(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.tgt_column=null: one side is 'en'; pairs need both"):
        Files("a", "b", src_column="en")


def test_text_corpora_pass_over_formats_of_pairs(tmp_path: Path) -> None:
    write(tmp_path, "po")
    (tmp_path / "pool.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")
    assert len(Files(str(tmp_path), str(tmp_path)).read().source) == 1


def test_noise_planted_into_files(tmp_path: Path) -> None:
    pairs = [(f"sentence number {n}", f"Satz mit der Nummer {n}") for n in range(100)]
    path = write(tmp_path, "jsonl", pairs)
    found = files(path, noise={"misaligned": 0.2, "copy": 0.1}).read()
    kinds = found.source["dsel_noise"].to_pylist()
    assert kinds.count("misaligned") == 20
    assert kinds.count("copy") == 10
    for (src, tgt), row, kind in zip(pairs, found.source.to_pylist(), kinds, strict=True):
        assert row["src"] == src
        assert (row["tgt"] == tgt) == (kind is None)
        assert row["text"] == f"{row['src']}\t{row['tgt']}"
    assert "dsel_noise" not in found.target.column_names
    for options, message in (
        ({"noise": {"mislaigned": 0.1}}, r"data\.noise\.mislaigned: is none of misaligned, .*; did you mean misaligned\?"),
        ({"noise": {"copy": 1.2}}, r"data\.noise\.copy=1\.2: must be between 0 and 1"),
        ({"noise": {"copy": 0.6, "truncated": 0.6}}, r"shares add up to 1\.2"),
    ):
        with pytest.raises(InputError, match=message):
            files(path, **options)
    with pytest.raises(InputError, match=r"data\.noise: is planted into pairs; set data\.src_column="):
        Files(str(path), str(path), noise={"copy": 0.1})
