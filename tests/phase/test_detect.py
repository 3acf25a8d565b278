"""What attribution finds of what is known, against scikit-learn and places counted one by one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from laboratory import Lab
from made_up_corpus import documents, make_pool, write_jsonl
from sklearn.metrics import roc_auc_score

from dsel.data.queries import Queries
from dsel.error import InputError
from dsel.phase.attribute import EXAMPLES
from dsel.phase.detect import Detect
from dsel.pool import NOISE, PLANTED, Pool
from dsel.scores import Scores
from dsel.state import State

Values = npt.NDArray[np.float32]
SIZE = 40
NOISES = [[None, "misaligned", None, None, "copy"][row % 5] for row in range(SIZE)]
IS_PLANTED = [row % 7 == 3 for row in range(SIZE)]


def pool_of(**columns: Any) -> Pool:
    """A source with ids `u0`, `u1` ... and these columns."""
    rows = [{"id": f"u{row}", "text": document["text"]} for row, document in enumerate(documents("kitchen", SIZE))]
    return make_pool([row | {name: values[at] for name, values in columns.items()} for at, row in enumerate(rows)])


def draw(num_queries: int, seed: int = 0) -> Values:
    """Scores (unit, query), many of which tie."""
    values: Values = np.random.default_rng(seed).integers(0, 9, (SIZE, num_queries)).astype(np.float32)
    return values


def detect(lab: Lab, folder: Path, pool: Pool, values: Values, test: Pool | None = None, **options: Any) -> dict[str, float]:
    """The metrics of the phase, after an attribution that found these values."""
    scored = folder / "attribute"
    scored.mkdir()
    Scores(values, pool.fingerprint).save(scored, pool)
    pq.write_table(pa.table({"query": [0]}), scored / EXAMPLES)
    world = replace(lab.world, name="detect", corpus=replace(lab.world.corpus, source=pool, test=test or lab.world.corpus.test))
    phase, state = Detect(**{"num_queries": None, **options}), State("", {"attribute": scored})
    assert phase.run(state, world, folder) == {}
    metrics: dict[str, float] = json.loads((folder / "metrics.json").read_text())
    assert phase.read(state, world, folder).metrics == metrics
    return metrics


def places(values: Values, query: int, units: Sequence[int]) -> float:
    """Of the first of the units: the mean of its first and its last possible place, counted one by one."""
    best = max((float(values[unit, query]) for unit in units), default=float("nan"))
    first = last = 1
    for value in values[:, query].tolist():
        first += value > best
        last += value >= best
    return (first + last - 1) / 2


def expected(name: str, found: Sequence[float]) -> dict[str, float]:
    """Mean reciprocal rank, and the share of the first ten."""
    return {f"{name}_mrr": float(np.mean([1 / place for place in found])), f"{name}_recall_10": float(np.mean([p <= 10 for p in found]))}


def gold(folder: Path, names: Sequence[Any]) -> Queries:
    """Queries with these ids as their sources."""
    texts = [row["text"] for row in documents("stars", len(names))]
    rows = [{"id": f"q{number}", "text": text, "gold": of} for number, (text, of) in enumerate(zip(texts, names, strict=True))]
    return Queries(str(write_jsonl(folder / "mine.jsonl", rows)))


@pytest.mark.parametrize("seed", range(3))
def test_areas_are_those_of_scikit_learn(lab: Lab, tmp_path: Path, seed: int) -> None:
    values = draw(len(lab.world.corpus.test), seed)
    found = detect(lab, tmp_path, pool_of(**{NOISE: NOISES, PLANTED: IS_PLANTED}), values)
    noisy, kinds, mean = np.array([kind is not None for kind in NOISES]), np.array([str(kind) for kind in NOISES]), values.mean(1)
    want = {"noise_auc": roc_auc_score(noisy, -mean), "planted_auc": roc_auc_score(IS_PLANTED, mean)}
    for kind in ("copy", "misaligned"):
        here = ~noisy | (kinds == kind)  # of the others only those that are right
        want[f"noise_auc_{kind}"] = roc_auc_score(noisy[here], -mean[here])
    assert found == pytest.approx(want)


def test_what_is_sure_to_be_found_has_an_area_of_one(lab: Lab, tmp_path: Path) -> None:
    """Noise harms, and what was planted helps."""
    ranks = np.array([-1.0 if kind else planted for kind, planted in zip(NOISES, IS_PLANTED, strict=True)], np.float32)
    pool = pool_of(**{NOISE: NOISES, PLANTED: [planted and not kind for kind, planted in zip(NOISES, IS_PLANTED, strict=True)]})
    found = detect(lab, tmp_path, pool, np.repeat(ranks[:, None], len(lab.world.corpus.test), 1))
    assert found == dict.fromkeys(("noise_auc", "noise_auc_copy", "noise_auc_misaligned", "planted_auc"), 1.0)


@pytest.mark.parametrize("num_queries", [None, 3])
def test_copies_are_found_at_their_places(lab: Lab, tmp_path: Path, num_queries: int | None) -> None:
    pool = pool_of(**{PLANTED: IS_PLANTED})
    copies = [row for row in range(SIZE) if IS_PLANTED[row]]
    if num_queries:
        asked = Detect("planted", num_queries).query_pool(replace(lab.world, corpus=replace(lab.world.corpus, source=pool)))
        copies = [int(name.removeprefix("u")) for name in asked.ids()]
    values = draw(len(copies), 4)
    values[copies[0], 0] = 9  # alone at the top
    found = detect(lab, tmp_path, pool, values, queries="planted", num_queries=num_queries)
    assert places(values, 0, copies[:1]) == 1
    want = expected("copy", [places(values, query, [unit]) for query, unit in enumerate(copies)])
    assert {name: value for name, value in found.items() if name.startswith("copy")} == pytest.approx(want)


def test_queries_that_only_share_an_id_are_no_copies(lab: Lab, tmp_path: Path) -> None:
    """Files that number their rows both begin with 0."""
    pool = pool_of(**{PLANTED: IS_PLANTED})
    test = make_pool([{"id": f"u{number}", "text": row["text"]} for number, row in enumerate(documents("stars", 5))], "test")
    assert set(detect(lab, tmp_path, pool, draw(5), test)) == {"planted_auc"}


def test_sources_of_facts_are_found_at_their_places(lab: Lab, tmp_path: Path) -> None:
    names = [["u3"], ["u5", "u17", "u30"], ["u0", "u1"], ["u39"]]
    values = draw(4, 6)
    values[[5, 17], 1] = 7  # two of its own at the same height
    found = detect(lab, tmp_path, pool_of(), values, queries=gold(tmp_path, names), gold_column="gold")
    want = [places(values, query, [int(name[1:]) for name in of]) for query, of in enumerate(names)]
    assert found == pytest.approx(expected("provenance", want) | {"gold_left_out": 0.0})


def test_a_single_id_need_not_be_a_list(lab: Lab, tmp_path: Path) -> None:
    values = draw(2, 7)
    found = detect(lab, tmp_path, pool_of(), values, queries=gold(tmp_path, ["u8", "u9"]), gold_column="gold")
    assert found == pytest.approx(expected("provenance", [places(values, 0, [8]), places(values, 1, [9])]) | {"gold_left_out": 0.0})


def test_ids_that_are_left_out_are_counted(lab: Lab, tmp_path: Path) -> None:
    """And have no place."""
    names = [["u3"], ["gone"], ["u5"]]
    values = draw(3, 8)
    found = detect(lab, tmp_path, pool_of(), values, queries=gold(tmp_path, names), gold_column="gold")
    want = expected("provenance", [places(values, 0, [3]), places(values, 2, [5])])
    assert found == pytest.approx(want | {"gold_left_out": 1.0})


def test_an_id_that_is_left_out_is_counted_beside_others(lab: Lab, tmp_path: Path) -> None:
    names = [["u3", "gone"], ["u5"]]
    found = detect(lab, tmp_path, pool_of(), draw(2), queries=gold(tmp_path, names), gold_column="gold")
    assert found["gold_left_out"] == 1


def test_scores_must_be_of_as_many_queries(lab: Lab, tmp_path: Path) -> None:
    """Else a column is taken for that of another query."""
    for number, count in enumerate((3, 9)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(InputError, match=rf"^phases\.detect: 6 queries, but phase attribute had {count}"):
            detect(lab, folder, pool_of(**{PLANTED: IS_PLANTED}), draw(count), queries="planted")


@pytest.mark.parametrize("known", [{}, {NOISE: [None] * SIZE}, {PLANTED: [False] * SIZE}], ids=["nothing", "noise", "planted"])
def test_nothing_is_known(lab: Lab, tmp_path: Path, known: dict[str, Any]) -> None:
    said = r"^phases\.detect: nothing is known of these data that could be found; plant noise \(data\.noise=\) or documents .*gold_column="
    with pytest.raises(InputError, match=said) as caught:
        detect(lab, tmp_path, pool_of(**known), draw(len(lab.world.corpus.test)))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "metrics.json").exists()


def test_a_column_that_is_not_there_is_named(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^phase detect: gold_column=golden: the queries have no such column \(.*text.*gold"):
        detect(lab, tmp_path, pool_of(), draw(1), queries=gold(tmp_path, ["u1"]), gold_column="golden")


def test_ids_of_another_pool_are_one_error(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^phase detect: gold_column=gold: none of its ids is in the pool; set data\.id_column="):
        detect(lab, tmp_path, pool_of(), draw(2), queries=gold(tmp_path, ["a", "b"]), gold_column="gold")


def test_scores_of_another_pool_are_refused(lab: Lab, tmp_path: Path) -> None:
    values, pool = draw(len(lab.world.corpus.test)), pool_of(**{PLANTED: IS_PLANTED})
    other = Pool("source", pool.table, "other")
    scored = tmp_path / "attribute"
    scored.mkdir()
    Scores(values, other.fingerprint).save(scored, other)
    pq.write_table(pa.table({"query": [0]}), scored / EXAMPLES)
    world = replace(lab.world, name="detect", corpus=replace(lab.world.corpus, source=pool))
    with pytest.raises(InputError, match="scores: made for pool other"):
        Detect().run(State("", {"attribute": scored}), world, tmp_path)
    with pytest.raises(InputError, match=r"^phases\.detect: looks at the scores of phase attribute, which has not run"):
        Detect().run(State(""), world, tmp_path)
