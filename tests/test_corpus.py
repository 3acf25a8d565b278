"""Parts share no text, and every row that was read is somewhere or counted."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsel.corpus import PARTS, Corpus, Documents, Split, load, prepare
from dsel.error import InputError
from dsel.functional.hashing import hash_texts


def table(texts: list[str], **columns: list[Any]) -> pa.Table:
    return pa.table({"text": pa.array(texts, pa.string()), "dsel_row": np.arange(len(texts)), **columns})


def corpus_of(source: list[str], target: list[str], split: Split, folder: Path) -> Corpus:
    folder.mkdir(exist_ok=True)
    prepare(Documents(table(source), table(target)), split, folder)
    return load(folder)


def texts(corpus: Corpus, part: str) -> list[str]:
    found: list[str] = corpus.pools()[part].table["text"].to_pylist()
    return found


SOURCE, TARGET = [f"pool {number}" for number in range(100)], [f"target {number}" for number in range(80)]

words = st.sampled_from([*"abcdefghijklmnopqrstuvwxyz", "aa", "bb", "ä", "e\u0301", " ", "a "])
target_words = st.lists(words, min_size=8, max_size=60)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    source=st.lists(words, min_size=1, max_size=60), target=target_words, overlap=st.sampled_from([0.0, 0.5, 1.0]),
    planted=st.integers(0, 3), holdout=st.sampled_from([0.0, 0.3]), seed=st.integers(0, 3),
)  # fmt: skip
def test_no_leak_and_nothing_is_lost(
    tmp_path: Path, source: list[str], target: list[str], overlap: float, planted: int, holdout: float, seed: int
) -> None:
    split = Split(planted=planted, overlap=overlap, holdout=holdout, seed=seed)
    try:
        corpus = corpus_of(source, target, split, tmp_path / "corpus")
    except InputError as error:  # no more target documents than are planted, or a pool that stands in the target as a whole
        assert len(set(target)) <= planted or set(source) <= set(target), error  # noqa: PT017  # hypothesis draws both kinds
        return
    parts = {part: texts(corpus, part) for part in PARTS}
    shared = {"target", "finetune"}  # those that overlap on purpose
    if len(set(target)) - planted < 8:  # too few to split
        shared |= {"validation", "test"}
    for a, b in combinations(PARTS, 2):
        if not {a, b} <= shared:
            assert not set(parts[a]) & set(parts[b]), (a, b)
    assert all(len(set(rows)) == len(rows) for rows in parts.values())
    marks = corpus.source.table["dsel_planted"].to_pylist()
    hidden = [text for text, mark in zip(parts["source"], marks, strict=True) if mark]
    assert len(hidden) == planted == corpus.record["planted"]
    assert set(hidden) <= set(target)
    own = [text for text, mark in zip(parts["source"], marks, strict=True) if not mark]
    assert set(own) | set(parts["holdout"]) == set(source) - set(target)
    dropped = corpus.record["dropped"]["source"]
    assert dropped.get("duplicate", 0) == len(source) - len(set(source))
    assert dropped.get("also_in_target", 0) == len(set(source) & set(target))
    assert corpus.record["read"] == {"source": len(source), "target": len(target)}
    assert len(source) == len(own) + len(parts["holdout"]) + sum(dropped.values())
    assert corpus.record["dropped"]["target"].get("duplicate", 0) == len(target) - len(set(target))


@pytest.mark.parametrize("overlap", [0.0, 0.5, 1.0])
def test_overlap_is_exact(tmp_path: Path, overlap: float) -> None:
    corpus = corpus_of(SOURCE, TARGET, Split(overlap=overlap), tmp_path / "corpus")
    sample, finetune = set(texts(corpus, "target")), set(texts(corpus, "finetune"))
    assert (len(sample), len(finetune)) == (20, 20)
    assert len(sample & finetune) == 20 * overlap


def test_the_overlap_moves_nothing_but_the_sample(tmp_path: Path) -> None:
    corpora = [corpus_of(SOURCE, TARGET, Split(overlap=overlap), tmp_path / str(overlap)) for overlap in (0.0, 1.0)]
    for part in ("source", "finetune", "validation", "test"):
        assert corpora[0].pools()[part].fingerprint == corpora[1].pools()[part].fingerprint
    assert corpora[0].target.fingerprint != corpora[1].target.fingerprint


def test_sizes_of_the_parts(tmp_path: Path) -> None:
    corpus = corpus_of(SOURCE, TARGET, Split(planted=20, holdout=0.1), tmp_path / "corpus")
    sizes = {part: len(pool) for part, pool in corpus.pools().items()}
    assert sizes == {"source": 110, "holdout": 10, "target": 15, "finetune": 15, "validation": 9, "test": 12}
    marks = np.array(corpus.source.table["dsel_planted"].to_pylist())
    assert marks.sum() == 20
    assert 10 < np.flatnonzero(marks).mean() < 100  # they do not stand together at an end
    assert [t.startswith("target") for t in texts(corpus, "source")] == marks.tolist()


def test_target_rows_may_stay_in_the_pool(tmp_path: Path) -> None:
    source = [*SOURCE[:50], *TARGET[:10]]
    excluded = corpus_of(source, TARGET, Split(), tmp_path / "a")
    assert len(excluded.source) == 50
    assert excluded.record["dropped"]["source"] == {"also_in_target": 10}
    kept = corpus_of(source, TARGET, Split(exclude_target=False), tmp_path / "b")
    assert len(kept.source) == 60
    assert kept.record["dropped"]["source"] == {}


def test_the_first_of_equal_texts_stays(tmp_path: Path) -> None:
    corpus = corpus_of(["a", "b", "a", "c", "b", "a"], [*TARGET, *TARGET[:3]], Split(), tmp_path / "corpus")
    assert corpus.source.table["dsel_row"].to_pylist() == [0, 1, 3]
    assert corpus.excluded.tolist() == sorted(hash_texts(pa.array(TARGET)).tolist())
    assert corpus.record["dropped"]["source"] == {"duplicate": 3}


def test_what_a_module_dropped_is_added_to_the_record(tmp_path: Path) -> None:
    documents = Documents(table(SOURCE), table(TARGET), {"source": {"empty": 4}}, ["source.jsonl:7 empty"], {"files": 2})
    record = prepare(documents, Split(), tmp_path)
    assert record["read"] == {"source": 104, "target": 80}
    assert record["dropped"]["source"] == {"empty": 4}
    assert (record["listed"], record["facts"]) == (["source.jsonl:7 empty"], {"files": 2})


def test_other_columns_are_kept(tmp_path: Path) -> None:
    """Columns that one side lacks are null there; numbers as ids become strings."""
    source = table(SOURCE, id=list(range(100)), domain=["x"] * 100, stars=list(range(100)))
    prepare(Documents(source, table(TARGET, domain=["y"] * 80)), Split(planted=5), tmp_path)
    rows = load(tmp_path).source.table.to_pylist()
    for row in rows:
        assert isinstance(row["id"], str)
        assert (row["stars"] is None) == row["dsel_planted"]
        assert row["domain"] == ("y" if row["dsel_planted"] else "x")
    assert Counter(row["dsel_planted"] for row in rows) == {False: 100, True: 5}


def test_the_same_split_whatever_the_run(tmp_path: Path) -> None:
    fingerprints = [corpus_of(SOURCE, TARGET, Split(seed=seed), tmp_path / str(n)).fingerprint for n, seed in enumerate((0, 0, 1))]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 1.2}, r"split\.target=1\.2: must be between 0 and 1"),
        ({"holdout": -0.1}, r"split\.holdout=-0\.1: must be between 0 and 1"),
        ({"holdout": 1.0}, r"split\.holdout=1\.0"),
        ({"target": 0.0}, r"split\.target=0\.0: must be above 0"),
        ({"test": 0.9}, r"split: validation \+ test \+ finetune"),
        ({"overlap": 0.0, "test": 0.4}, r"split: validation \+ test \+ finetune .* = 1\.05"),
        ({"target": 0.5, "finetune": 0.25}, r"split\.overlap=1\.0: asks for a share 0\.5 of the fine-tuning documents"),
        ({"planted": 80}, r"split\.planted=80: there are only 80 target documents"),
        ({"planted": -1}, r"split\.planted=-1"),
    ],
)
def test_a_split_that_cannot_be_names_its_key(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        corpus_of(SOURCE, TARGET, Split(**options), tmp_path / "corpus")


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ([], TARGET, "source: no documents left of 0 read"),
        (SOURCE, [], "target: no documents left of 0 read"),
        (TARGET[:9], TARGET, "source: every document also stands in the target"),
    ],
)
def test_empty_sides_are_named(tmp_path: Path, source: list[str], target: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        corpus_of(source, target, Split(), tmp_path / "corpus")


@pytest.mark.parametrize("count", [1, 2, 7])
def test_too_few_target_documents_are_not_split(tmp_path: Path, count: int, caplog: pytest.LogCaptureFixture) -> None:
    corpus = corpus_of(SOURCE, TARGET[:count], Split(test=0.0), tmp_path / "corpus")
    assert "too few to split" in caplog.text
    assert len(corpus.target) == len(corpus.finetune) == len(corpus.validation) == count
    assert len(corpus.test) == 0


def test_a_small_share_is_one_document_at_least(tmp_path: Path) -> None:
    corpus = corpus_of(SOURCE, TARGET[:8], Split(validation=0.01, test=0.01), tmp_path / "corpus")
    assert len(corpus.validation) == len(corpus.test) == 1


def tasks(*rows: tuple[str, str, str]) -> pa.Table:
    """Rows of task, question and answer."""
    return table([f"{src}\t{tgt}" for _, src, tgt in rows], src=[src for _, src, _ in rows], task=[task for task, *_ in rows])


def test_tasks_trained_on_apart_repeat_only_themselves(tmp_path: Path) -> None:
    source = tasks(("a", "one", "x"), ("b", "one", "x"), ("a", "one", "y"), ("a", "two", "x"), ("b", "goal 3", "x"), ("a", "three", "y"))
    target = tasks(*(("t", f"goal {i}", "xy"[i % 2]) for i in range(20)), ("t", "goal 5", "x"), ("u", "goal 5", "x"))
    record = prepare(Documents(source, target, in_tasks=True, apart=True), Split(), tmp_path)
    assert record["dropped"] == {"source": {"duplicate": 1, "also_in_target": 1}, "target": {"duplicate": 1}}
    corpus = load(tmp_path)
    rows = corpus.source.table.select(["task", "text"]).to_pylist()
    assert [(row["task"], row["text"]) for row in rows] == [("a", "one\tx"), ("b", "one\tx"), ("a", "two\tx"), ("a", "three\ty")]
    assert corpus.excluded.tolist() == sorted(hash_texts(target["text"].take([*range(20), 21])).tolist())
    record = prepare(Documents(source, target, in_tasks=True), Split(), tmp_path)
    assert record["dropped"] == {"source": {"duplicate": 1}, "target": {"duplicate": 1}}  # by text: one in two tasks, and none leaks


def test_tasks_that_are_the_same_are_said_where_they_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = tasks(*((name, f"q {i}", "xy"[i % 2]) for name in "ab" for i in range(5)))
    target = tasks(*(("t", f"goal {i}", "x") for i in range(20)))
    prepare(Documents(source, target, in_tasks=True, apart=True), Split(), tmp_path)
    assert caplog.messages == ["sources a and b have the same 5 rows"]
    assert len(load(tmp_path).source) == 10


def test_a_source_may_be_empty_where_none_is_needed(tmp_path: Path) -> None:
    target = tasks(*(("t", f"goal {i}", "x") for i in range(20)))
    empty = target.schema.empty_table()
    for apart in (False, True):
        corpus = prepare(Documents(empty, target, in_tasks=True, apart=apart, needs_source=False), Split(), tmp_path)
        assert corpus["parts"]["source"]["documents"] == 0
        with pytest.raises(InputError, match=r"^source: no documents left of 0 read"):
            prepare(Documents(empty, target, in_tasks=True, apart=apart), Split(), tmp_path)
    with pytest.raises(InputError, match=r"^target: no documents left of 0 read"):
        prepare(Documents(empty, empty, in_tasks=True, needs_source=False), Split(), tmp_path)
    with pytest.raises(InputError, match=r"task t: none of its rows is left"):
        prepare(Documents(target, target, in_tasks=True, apart=True, needs_source=False), Split(), tmp_path)
