"""What is asked about: parts of the corpus, planted documents, files of one's own, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from laboratory import Lab
from made_up_corpus import documents, make_pool, permuted, write_jsonl

from dsel.artifact import Store
from dsel.context import World
from dsel.data.queries import Queries
from dsel.error import InputError
from dsel.model.causal_lm import CausalLM
from dsel.objective.instruction import Instruction
from dsel.phase.queries import Asking
from dsel.pool import PLANTED, SOURCE_TOKENS, TOKENS, Pool

CONTEXT = 12
Row = Mapping[str, Any]


def world_of(lab: Lab, **pools: Any) -> World:
    """The lab's, in phase ask, with other parts of the corpus."""
    return replace(lab.world, name="ask", corpus=replace(lab.world.corpus, **pools))


def ask(lab: Lab, queries: Any, num_queries: int | None = None, **pools: Any) -> Pool:
    """The queries."""
    return Asking(queries, num_queries).query_pool(world_of(lab, **pools))


def mine(folder: Path, rows: Sequence[Row], **options: Any) -> Queries:
    """A file of these rows."""
    return Queries(str(write_jsonl(folder / "mine.jsonl", [dict(row) for row in rows])), **options)


@pytest.fixture(scope="module")
def pairs(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world of questions whose answers are yes or no."""
    rows = [{"src": f"is {number} odd?", "tgt": "yes" if number % 2 else "no"} for number in range(12)]
    model = CausalLM(Instruction(), num_layers=1, dim=32, num_heads=2, context=CONTEXT, vocab_size=300)
    corpus = replace(lab.world.corpus, finetune=pairs_pool(rows))
    store = Store(tmp_path_factory.mktemp("store"))
    return replace(lab.world, name="ask", model=model, objective=model.objective, corpus=corpus, store=store, tokenizer_key="pairs")


def pairs_pool(rows: Sequence[Row]) -> Pool:
    """A pool of pairs."""
    return make_pool([{"text": f"{row['src']}\t{row['tgt']}", **row} for row in rows])


@pytest.mark.parametrize("part", ["test", "target", "validation", "source"])
def test_a_part_of_the_corpus(lab: Lab, part: str) -> None:
    whole = lab.world.corpus.pools()[part]
    found = ask(lab, part)
    assert found.ids().tolist() == whole.ids().tolist()
    assert found.table[TOKENS].to_pylist() == lab.world.tokenized(whole).table[TOKENS].to_pylist()
    few = ask(lab, part, 5).ids().tolist()
    assert len(set(few)) == 5
    assert few == [name for name in whole.ids() if name in few]  # in the order of the part


def test_planted_documents_are_those_that_are_hidden_in_the_source(lab: Lab) -> None:
    found = ask(lab, "planted")
    marked = [row["id"] for row in lab.world.corpus.source.table.to_pylist() if row[PLANTED]]
    assert found.name == "planted"
    assert found.ids().tolist() == marked
    assert len(marked) == 20
    assert {name.partition("-")[0] for name in marked} == {"stars"}


def test_a_file_of_ones_own(lab: Lab, tmp_path: Path) -> None:
    rows = documents("harbour", 4)
    found = ask(lab, mine(tmp_path, rows))
    assert found.table["text"].to_pylist() == [row["text"] for row in rows]
    assert found.ids().tolist() == [row["id"] for row in rows]
    assert found.table[TOKENS].to_pylist() == lab.pool([row["text"] for row in rows]).table[TOKENS].to_pylist()
    other = [{"words": row["text"], "id": number, "gold": ["a", "b"]} for number, row in enumerate(rows)]
    found = ask(lab, mine(tmp_path, other, text_column="words", id_column="none"))
    assert found.table["text"].to_pylist() == [row["text"] for row in rows]
    assert found.table["gold"].to_pylist() == [["a", "b"]] * 4  # what else the rows hold
    assert ask(lab, mine(tmp_path, other, text_column="words")).ids().tolist() == ["0", "1", "2", "3"]  # numbers are texts


def test_rows_without_an_id_get_one(lab: Lab, tmp_path: Path) -> None:
    rows = [{"text": row["text"]} for row in documents("harbour", 4)]
    assert ask(lab, mine(tmp_path, rows)).ids().tolist() == [f"query-{number}" for number in range(4)]
    assert len(set(ask(lab, mine(tmp_path, rows), 2).ids().tolist())) == 2


def test_the_draw_hangs_on_ids_alone(lab: Lab, tmp_path: Path) -> None:
    """Not on the order of a pool, nor on what else stands in it."""
    whole = lab.world.corpus.source
    drawn = ask(lab, "test", 8, test=whole).ids().tolist()
    mixed, _ = permuted(whole)
    again = ask(lab, "test", 8, test=mixed).ids().tolist()
    assert sorted(again) == sorted(drawn)
    assert again != drawn  # they stand as the pool does
    more = ask(lab, "test", 30, test=whole).ids().tolist()
    assert set(drawn) < set(more)
    half = whole.take(np.arange(0, len(whole), 2))
    assert set(drawn) & set(half.ids()) <= set(ask(lab, "test", 8, test=half).ids())
    rows = [{"id": row["id"], "text": row["text"]} for row in whole.table.to_pylist()]
    assert ask(lab, mine(tmp_path, rows), 8).ids().tolist() == drawn


def test_the_identity_is_that_of_the_files(tmp_path: Path) -> None:
    assert Asking("test").identity() is None
    data = mine(tmp_path, documents("harbour", 3))
    before = Asking(data).identity()
    assert Asking(data).identity() == before == data.identity()
    assert Asking(replace(data, id_column="number")).identity() != before
    assert Asking(mine(tmp_path, documents("harbour", 4))).identity() != before


@pytest.mark.parametrize(
    ("queries", "num_queries", "said"),
    [
        ("tests", 5, "queries=tests: must be planted, one of source, holdout, target, finetune, validation, test, or data"),
        ("holdout", 5, "queries=holdout: there are none; give another part, or data of your own"),
        ("test", 0, "num_queries=0: must be at least 1"),
        ("test", -1, "num_queries=-1: must be at least 1"),
    ],
)
def test_what_cannot_be_asked(lab: Lab, queries: str, num_queries: int, said: str) -> None:
    nothing = lab.world.corpus.test.take(np.empty(0, np.int64))
    with pytest.raises(InputError) as caught:
        ask(lab, queries, num_queries, holdout=nothing)
    assert str(caught.value) == f"phases.ask.{said}"


def test_nothing_was_planted(lab: Lab) -> None:
    with pytest.raises(InputError, match=r"^phases\.ask\.queries=planted: there are none; give another part"):
        ask(lab, "planted", source=make_pool(documents("kitchen", 5)))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"words": "a"}], ["mine.jsonl", "no column 'text'", "words"]),
        ([{"text": "The sailor"}, {"text": ""}], ["mine.jsonl", "2", "'text' is empty"]),
        ([{"text": 3}], ["mine.jsonl", "column 'text' holds int64, not strings"]),
        ([], ["mine.jsonl", "empty"]),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(lab: Lab, tmp_path: Path, rows: list[Row], said: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        ask(lab, mine(tmp_path, rows))
    assert "\n" not in str(caught.value)
    for part in said:
        assert part in str(caught.value)
    with pytest.raises(InputError, match=r"^query=.*nowhere\.jsonl"):
        ask(lab, Queries(str(tmp_path / "nowhere.jsonl")))


@pytest.mark.parametrize("rows", [[{"words": "a"}], [{"text": "The sailor"}, {"text": ""}]], ids=["column", "empty"])
def test_errors_of_a_file_name_no_key_of_the_corpus(lab: Lab, tmp_path: Path, rows: list[Row]) -> None:
    """What `data` is of this run has nothing to do with them: data.text_column= would change nothing."""
    with pytest.raises(InputError) as caught:
        ask(lab, mine(tmp_path, rows))
    assert "data." not in str(caught.value).replace(str(tmp_path), "")


def test_pairs_are_asked_by_both_sides(pairs: World, tmp_path: Path) -> None:
    rows = [{"question": "is 31 odd?", "answer": "yes"}, {"question": "is 40 odd?", "answer": "no"}]
    found = Asking(mine(tmp_path, rows, src_column="question", tgt_column="answer")).query_pool(pairs)
    assert found.table["text"].to_pylist() == ["is 31 odd?\tyes", "is 40 odd?\tno"]
    assert {SOURCE_TOKENS, TOKENS} <= set(found.table.column_names)


@pytest.mark.parametrize("side", ["src", "tgt"])
def test_a_query_that_would_be_cut_is_named(pairs: World, tmp_path: Path, side: str) -> None:
    good = [{"id": f"good-{number}", "src": f"is {number} odd?", "tgt": "yes" if number % 2 else "no"} for number in range(2)]
    long = {"id": "long", "src": "is it?", "tgt": "yes", side: "the barge and the buoy and the ferry " * 4}
    data = mine(tmp_path, [*good, long, {**long, "id": "longer"}], src_column="src", tgt_column="tgt")
    with pytest.raises(
        InputError, match=rf"^phases\.ask\.queries: row 2, id 'long' \(2 such queries\): .* context of {CONTEXT} tokens"
    ) as caught:
        Asking(data).query_pool(pairs)
    assert "\n" not in str(caught.value)
    part = pairs_pool([{"src": "is it?", "tgt": "yes"}, {key: long[key] for key in ("src", "tgt")}])
    with pytest.raises(InputError, match=r"^phases\.ask\.queries: row 1, id '1' \(1 such queries\)"):
        Asking("test").query_pool(replace(pairs, corpus=replace(pairs.corpus, test=part)))


def test_a_label_that_training_never_saw_is_named(pairs: World, tmp_path: Path) -> None:
    rows = [{"id": "a", "src": "is 1 odd?", "tgt": "yes"}, {"id": "b", "src": "is 2 odd?", "tgt": "No"}]
    data = mine(tmp_path, rows, src_column="src", tgt_column="tgt")
    with pytest.raises(InputError) as caught:
        Asking(data).query_pool(pairs)
    assert str(caught.value) == (
        "phases.ask.queries: row 1, id 'b': the label 'No' is none that training saw (no, yes); correct it, or train on such examples"
    )


@pytest.mark.parametrize("trained", [0, 3])
def test_answers_that_are_no_classes_may_be_new(pairs: World, tmp_path: Path, trained: int) -> None:
    """Of every answer there are but few examples, or none at all."""
    some = pairs_pool([{"src": f"what is {number}?", "tgt": f"the {number}"} for number in range(trained)] or [{"src": "a", "tgt": "b"}])
    world = replace(pairs, corpus=replace(pairs.corpus, finetune=some.take(np.arange(trained))))
    data = mine(tmp_path, [{"src": "what is 9?", "tgt": "new"}], src_column="src", tgt_column="tgt")
    assert len(Asking(data).query_pool(world)) == 1


def test_rows_of_which_some_have_no_id(lab: Lab, tmp_path: Path) -> None:
    """Every query can be told from the others."""
    path = tmp_path / "mine.parquet"
    texts = [row["text"] for row in documents("harbour", 4)]
    pq.write_table(pa.table({"text": texts, "id": ["a", None, "c", None]}), path)
    for number in (None, 3):
        found = ask(lab, Queries(str(path)), number).ids().tolist()
        assert None not in found
        assert len(set(found)) == len(found) == (number or 4)
