"""Selections from a stream: what may not change them, and what of them stays when something goes wrong."""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_corpus import make_pool
from streams import KINDS, Fitted, Length, Rows, Shuffled, encode, select, sentences

from dsel.context import Context
from dsel.data.files import Files
from dsel.data.shards import Shards
from dsel.error import InputError
from dsel.executor.local import Local
from dsel.functional.hashing import hash_texts
from dsel.objective.language_modeling import LanguageModeling
from dsel.pool import TOKENS, Budget, Pool
from dsel.protocol import FittedScore, Selection, StreamSelector
from dsel.scores import Scores
from dsel.selector.by_score import ByScore
from dsel.tokens import Tokenize

TEXTS = sentences(60)
TARGET = [f"a target {i}" for i in range(12)]


class Words:
    """A tokenizer with a token a word."""

    bos_token_id = eos_token_id = cls_token_id = sep_token_id = 0

    def __len__(self) -> int:
        return 9

    def __call__(self, text: list[str], **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[1] * len(one.split()) for one in text]}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.txt"
    path.write_bytes(encode(".txt", TARGET))
    return path


def write_source(folder: Path, texts: list[str], kind: str = ".jsonl", num_files: int = 1) -> Path:
    folder.mkdir()
    for number, part in enumerate(np.array_split(np.arange(len(texts)), num_files)):
        (folder / f"{number:03d}{kind}").write_bytes(encode(kind, [texts[i] for i in part], int(part[0])))
    return folder


def told(rows: Rows) -> list[tuple[Any, ...]]:
    return [(row["text"], row["dsel_rank"], row["dsel_score"], row["dsel_row"]) for row in rows]


def by_sorting(texts: list[str], count: int) -> list[str]:
    """The longest different texts, ties by hash, sorted by Python."""
    import pyarrow as pa

    names = dict(zip(texts, hash_texts(pa.array(texts)).tolist(), strict=True))
    return sorted(set(texts), key=lambda text: (-len(text), names[text]))[:count]


@pytest.mark.parametrize("kind", KINDS)
def test_any_format_gives_the_same(mine: Path, tmp_path: Path, kind: str) -> None:
    texts = [*TEXTS, *TEXTS[:9], TARGET[0]]
    rows, record = select(Shards(str(write_source(tmp_path / "s", texts, kind, 3)), str(mine), piece_bytes=100), tmp_path)
    assert [row["text"] for row in rows] == by_sorting(TEXTS, 5)
    assert all(texts[row["dsel_row"]] == row["text"] for row in rows)
    assert all(int(row["n"]) == row["dsel_row"] for row in rows if "n" in row)
    assert record == {
        "chosen": 5,
        "read": {"source": len(texts), "target": len(TARGET)},
        "dropped": {"source": {"duplicate": 9, "also_in_target": 1}, "target": {}},
        "listed": [],
    }


@settings(deadline=None, max_examples=12)
@given(
    texts=st.lists(st.sampled_from(TEXTS), min_size=12, max_size=60),
    num_files=st.integers(1, 6),
    piece_bytes=st.integers(60, 3000),
    executor=st.one_of(st.builds(Local, st.sampled_from([1, 2, 5])), st.builds(Shuffled, st.integers(0, 9))),
    keep=st.sampled_from(["top", "bottom", "middle", "sample"]),
    kind=st.sampled_from([".jsonl", ".jsonl.gz", ".parquet"]),
)
def test_pieces_files_workers_and_their_order_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], num_files: int, piece_bytes: int, executor: Any, keep: str, kind: str
) -> None:
    folder = tmp_path_factory.mktemp("same")
    (mine := folder / "mine.txt").write_bytes(encode(".txt", TARGET))
    scorer = Fitted() if len(texts) % 2 else Length()
    choose = {"scorer": scorer, "selector": ByScore(keep=keep), "budget": Budget(fraction=0.4)}
    for name in ("whole", "parts"):
        (folder / name).mkdir()
    whole = Shards(str(write_source(folder / "s", texts)), str(mine), sample=9)
    parts = Shards(str(write_source(folder / "p", texts, kind, num_files)), str(mine), sample=9, piece_bytes=piece_bytes)
    assert told(select(parts, folder / "parts", executor=executor, **choose)[0]) == told(select(whole, folder / "whole", **choose)[0])


BUDGETS = [Budget(units=1), Budget(units=8), Budget(fraction=0.5), Budget(tokens=3), Budget(tokens=70), Budget(fraction=1.0)]


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
@pytest.mark.parametrize("keep", ["top", "bottom", "middle"])
def test_without_ties_the_choice_is_that_from_a_pool_in_memory(keep: str, budget: Budget, mine: Path, tmp_path: Path) -> None:
    tokenizer: Any = Words()
    shards = Shards(str(write_source(tmp_path / "s", [*TEXTS, *TEXTS[7:30]], num_files=4)), str(mine), piece_bytes=300)
    rows, _ = select(shards, tmp_path, Fitted(), ByScore(keep=keep), budget, tokenizer=tokenizer)
    nothing: Any = None
    score = Fitted().fit(Pool("sample", shards.read().source, ""), nothing, nothing)
    pool = make_pool([{"text": text} for text in TEXTS])
    pool = replace(pool, table=Tokenize(tokenizer, LanguageModeling.sides)(pool.table))
    assert TOKENS in pool.table.column_names
    context = Context(nothing, *[nothing] * (len(Context.__dataclass_fields__) - 2), Scores(score(pool.table), pool.fingerprint))
    chosen = ByScore(keep=keep).select(pool, pool, budget, context)
    assert [row["text"] for row in rows] == [TEXTS[unit] for unit in chosen.units]
    np.testing.assert_array_equal(np.array([row["dsel_score"] for row in rows], np.float32), chosen.scores)


@pytest.mark.parametrize("keep", ["top", "middle"])
def test_a_budget_over_what_there_is(keep: str, mine: Path, tmp_path: Path) -> None:
    tokenizer: Any = Words()
    shards = Shards(str(write_source(tmp_path / "s", [*TEXTS, *TEXTS])), str(mine))
    total = sum(1 + len(text.split()) for text in TEXTS)
    with pytest.raises(InputError, match=rf"budget.units=61 is over the pool's size of {len(TEXTS)} units"):
        select(shards, tmp_path, selector=ByScore(keep=keep), budget=Budget(units=61))
    with pytest.raises(InputError, match=rf"budget.tokens={total + 1} is over the pool's size of {total} tokens"):
        select(shards, tmp_path, selector=ByScore(keep=keep), budget=Budget(tokens=total + 1), tokenizer=tokenizer)
    rows, _ = select(shards, tmp_path, selector=ByScore(keep=keep), budget=Budget(tokens=total), tokenizer=tokenizer)
    assert len(rows) == len(TEXTS)


def test_a_selector_that_needs_the_pool_as_a_whole() -> None:
    class Whole:
        def select(self, source: Pool, target: Pool, budget: Budget, context: Context) -> Selection:
            raise NotImplementedError

    from dsel.phase.choose import Choose

    assert isinstance(ByScore(), StreamSelector)
    with pytest.raises(InputError, match="selector Whole: cannot choose from a stream; take selector=by_score, or read all into memory"):
        Choose(Whole(), Budget(units=1))


def test_files_in_memory_give_the_same(mine: Path, tmp_path: Path) -> None:
    """`data=files` through the same phases: rows as the files number them, and what was dropped when they were read."""
    folder = write_source(tmp_path / "s", [*TEXTS[:3], "", *TEXTS[3:], *TEXTS[:4]], num_files=2)
    both = []
    for name, make in (("stream", Shards), ("memory", Files)):
        (tmp_path / name).mkdir()
        both.append(select(make(str(folder), str(mine), on_bad_row="skip"), tmp_path / name))
    assert both[0] == both[1]


# --- what stays


def artifacts(folder: Path) -> dict[str, int]:
    """Finished pieces, and when."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (folder / "artifacts").glob("piece-*/done.json")}


def new_pieces(folder: Path, data: Shards, scorer: Any = None) -> int:
    """How many pieces another run scores."""
    before = artifacts(folder)
    select(data, folder, scorer)
    after = artifacts(folder)
    assert before.items() <= after.items()
    return len(after) - len(before)


def of_file(data: Shards, path: Path) -> int:
    return sum(Path(piece.path) == path for piece in data.stream.pieces)


@pytest.fixture
def shards(mine: Path, tmp_path: Path) -> Shards:
    folder = write_source(tmp_path / "s", TEXTS, num_files=5)
    (sample := tmp_path / "sample.txt").write_bytes(encode(".txt", TEXTS[:20]))
    return Shards(str(folder), str(mine), sample_from=str(sample), piece_bytes=200)


def test_nothing_is_scored_twice(shards: Shards, tmp_path: Path) -> None:
    assert new_pieces(tmp_path, shards) == len(shards.stream.pieces) > 20
    assert new_pieces(tmp_path, replace(shards, source=str(tmp_path / "s" / "00[13].jsonl"))) == 0
    assert new_pieces(tmp_path, shards, Fitted()) == len(shards.stream.pieces)


@pytest.mark.parametrize("change", ["append", "rewrite", "remove", "add"])
def test_a_file_that_changes_between_runs_is_scored_alone(shards: Shards, tmp_path: Path, change: str) -> None:
    select(shards, tmp_path, Fitted())
    path = tmp_path / "s" / ("003.jsonl" if change != "add" else "002b.jsonl")
    if change == "append":
        with path.open("ab") as file:
            file.write(encode(".jsonl", ["one more"]))
    elif change == "rewrite":
        path.write_bytes(path.read_bytes().replace(b"wing", b"ring"))  # of the same size
    elif change == "remove":
        path.unlink()
    else:
        path.write_bytes(encode(".jsonl", ["a new one", "and another"]))
    changed = replace(shards)
    assert new_pieces(tmp_path, changed, Fitted()) == of_file(changed, path)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert select(changed, tmp_path, Fitted()) == select(changed, fresh, Fitted())


@pytest.mark.parametrize("change", ["append", "rewrite", "remove"])
@pytest.mark.parametrize("phase", ["scan", "choose", "write"])
def test_a_file_that_changes_in_the_middle_of_a_run(
    shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str, change: str
) -> None:
    path = tmp_path / "s" / "003.jsonl"
    original = path.read_bytes()

    def tamper() -> None:
        if change == "remove":
            path.unlink()
        else:
            path.write_bytes(original + b'{"text": "more"}\n' if change == "append" else original.replace(b"bark", b"dark"))

    module = __import__(f"dsel.phase.{phase}", fromlist=["x"])
    name = {"scan": "score_piece", "choose": "_from_top", "write": "_write"}[phase]
    work, calls = getattr(module, name), itertools.count()

    def late(*arguments: Any) -> Any:
        if next(calls) == 0 and phase != "write":
            tamper()
        return work(*arguments)

    monkeypatch.setattr(module, name, late)
    assert b"bark" in original
    if phase == "write":  # all rows were read by then
        expected = select(shards, tmp_path, budget=Budget(fraction=1.0))
        assert len(expected[0]) == len(TEXTS)
        return
    with pytest.raises(InputError, match=r"003.jsonl: (changed while it was in use .*; run again|cannot be read any more)"):
        select(shards, tmp_path, budget=Budget(fraction=1.0), executor=Local(1))
    monkeypatch.undo()
    path.write_bytes(original)
    again = replace(shards)
    done = len(artifacts(tmp_path))
    assert done >= sum(Path(p.path).name < "003" for p in shards.stream.pieces)
    assert new_pieces(tmp_path, again) == len(again.stream.pieces) - (done - (0 if phase == "scan" else of_file(again, path)))


def test_a_change_that_leaves_size_and_time_is_found_when_rows_are_written(
    shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dsel.phase import choose

    path, work = tmp_path / "s" / "003.jsonl", choose._from_top
    state = path.stat()

    def late(*arguments: Any) -> Any:
        path.write_bytes(path.read_bytes().replace(b"bark", b"dark"))
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        return work(*arguments)

    monkeypatch.setattr(choose, "_from_top", late)
    with pytest.raises(InputError, match=r"003.jsonl: changed after it was scored: other texts stand in rows that were chosen"):
        select(shards, tmp_path, budget=Budget(fraction=1.0))


@dataclass(frozen=True)
class Fails:
    """Scores by length, and fails where a text holds a word."""

    word: str
    error: type[Exception] = ZeroDivisionError
    reads = ("text",)

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        def score(batch: Any) -> Any:
            texts = batch["text"].to_pylist()
            if any(self.word in text for text in texts):
                raise self.error(f"no {self.word}: {texts[0]}")
            time.sleep(0.001)
            return np.array([[len(text)] for text in texts], np.float32)

        return score


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_when_one_piece_fails_the_others_stay(mine: Path, tmp_path: Path, workers: int) -> None:
    texts = [f"{text} stone" if i in (31, 32, 50) else text for i, text in enumerate(TEXTS)]
    shards = Shards(str(write_source(tmp_path / "s", texts, ".txt", 60)), str(mine))
    with pytest.raises(ZeroDivisionError, match=texts[31]) as caught:  # the first of them, not the second
        select(shards, tmp_path, Fails("stone"), executor=Local(workers))
    assert caught.value.__notes__ == [f"while {tmp_path / 's' / '031.txt'} was scored, from 0"]
    assert 31 <= len(artifacts(tmp_path)) <= 31 + workers
    assert not list((tmp_path / "artifacts").glob(".piece-*.tmp"))
