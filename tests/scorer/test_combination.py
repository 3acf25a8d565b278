"""Combination against counting, a document at a time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from command import dsel
from laboratory import Lab
from made_up_corpus import make_pool, write_files

from dsel.context import Context
from dsel.error import InputError
from dsel.pool import ID, TEXT, TOKENS, Pool
from dsel.protocol import FittedScore
from dsel.scorer.bm25 import Bm25
from dsel.scorer.cds import Cds
from dsel.scorer.combination import Combination
from dsel.scorer.domain_classifier import DomainClassifier
from dsel.scorer.perplexity import Perplexity
from dsel.scorer.random import Random


@dataclass(frozen=True)
class Counts:
    """How often a letter comes; a scorer and its fitted score."""

    letter: str

    reads = (TEXT,)

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        return self

    def __call__(self, batch: pa.Table) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.array([[text.count(self.letter)] for text in batch[TEXT].to_pylist()], dtype=np.float32)


@dataclass(frozen=True)
class Broken(Counts):
    """No number for a text without the letter."""

    def __call__(self, batch: pa.Table) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.log(super().__call__(batch), where=super().__call__(batch) > 0, out=np.full((batch.num_rows, 1), np.nan, np.float32))


def test_equals_the_weighted_mean_of_ranks(lab: Lab) -> None:
    rng = np.random.default_rng(0)
    pool = make_pool([{"text": "a" * int(a) + "b" * int(b)} for a, b in rng.integers(0, 8, size=(300, 2))])
    scorers, weights = {"a": Counts("a"), "b": Counts("b")}, {"a": 3.0, "b": 0.5}
    scores = Combination(scorers, weights).fit(pool, pool, lab.context())(pool.table)
    assert scores.dtype == np.float32
    texts = pool.table[TEXT].to_pylist()
    for text, score in zip(texts, scores[:, 0].tolist(), strict=True):
        above = 0.0
        for letter, weight in weights.items():
            larger = sum(other.count(letter) > text.count(letter) for other in texts)
            equal = sum(other.count(letter) == text.count(letter) for other in texts)
            above += weight * (larger + equal / 2) / len(texts) / 3.5
        assert score == pytest.approx(-above, rel=1e-6)


def test_one_scorer_alone_keeps_its_order_far_beyond_the_sample(lab: Lab) -> None:
    pool = make_pool([{"text": "a" * number} for number in range(400)])
    scores = Combination({"a": Counts("a"), "b": Counts("b")}, {"b": 0}, sample=20).fit(pool, pool, lab.context())(pool.table)[:, 0]
    assert (np.diff(scores) > 0).all()


def test_parts_are_fitted_as_they_would_be_alone(lab: Lab) -> None:
    alone = DomainClassifier(negatives=0.5).fit(lab.source, lab.target, lab.context())(lab.source.table)[:, 0]
    scorers = {"random": Random(), "classifier": DomainClassifier(negatives=0.5)}
    scores = Combination(scorers, {"random": 1e-9}).fit(lab.source, lab.target, lab.context())(lab.source.table)[:, 0]
    np.testing.assert_array_equal(np.argsort(scores, kind="stable"), np.argsort(alone, kind="stable"))


def test_reads_and_costs_what_the_parts_with_a_weight_do() -> None:
    scorers = {"bm25": Bm25(), "cds": Cds(), "perplexity": Perplexity(), "random": Random()}
    both = Combination(scorers)
    assert (both.reads, both.num_passes) == ((TEXT, TOKENS, ID), 3.0)
    cheap = Combination(scorers, {"cds": 0.0, "perplexity": 0, "bm25": 2})
    assert (cheap.reads, cheap.num_passes) == ((TEXT, ID), 0.0)


def test_a_combination_of_combinations(lab: Lab) -> None:
    inner = Combination({"bm25": Bm25(), "random": Random()})
    scores = Combination({"inner": inner, "classifier": DomainClassifier()}).fit(lab.source, lab.target, lab.context())(lab.source.table)
    assert len(np.unique(scores)) > len(scores) / 2


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"c": 1.0}, r"scorer\.weights\.c=1\.0: there is no scorer\.scorers\.c; there are a, b; add it by \+scorer@scorer\.scorers\.c=c"),
        ({"a": -1.0}, r"scorer\.weights\.a=-1\.0: must be a number of at least 0"),
        ({"a": "much"}, r"scorer\.weights\.a='much': must be a number"),
        ({"a": float("nan")}, r"scorer\.weights\.a=nan: must be a number"),
        ({"a": True}, r"scorer\.weights\.a=True: must be a number"),
        ({"a": 0, "b": 0}, r"scorer\.weights: no scorer is left"),
    ],
)
def test_mistakes_in_weights(weights: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Combination({"a": Counts("a"), "b": Counts("b")}, weights)


def test_other_mistakes(lab: Lab) -> None:
    with pytest.raises(InputError, match=r"scorer\.sample=0: must be at least 1"):
        Combination({"a": Counts("a")}, sample=0)
    wrong: Any = {"a": Counts("a"), "dsir": "dsir"}
    with pytest.raises(InputError, match=r"scorer\.scorers\.dsir='dsir': is no scorer; add one by \+scorer@scorer\.scorers\.dsir=dsir"):
        Combination(wrong)
    pool = make_pool([{"text": text, "id": f"u{text}"} for text in ("ab", "b", "a")])
    with pytest.raises(InputError, match=r"scorer\.scorers\.broken: 1 scores are not finite; first: id 'ub', score nan"):
        Combination({"b": Counts("b"), "broken": Broken("a")}).fit(pool, pool, lab.context())


def test_the_command_of_the_docstring(tmp_path: Path) -> None:
    """It adds a scorer, weighs it and leaves the one out that needs a model: nothing is trained."""
    assert Combination.__doc__ is not None
    (command,) = re.findall(r"^\s+dsel (experiment=.*)$", Combination.__doc__, re.MULTILINE)
    source, target = write_files(tmp_path, 20, 30)
    output = tmp_path / "best.jsonl"
    answer = dsel(*command.split(), f"source={source}", f"target={target}", f"output={output}", "budget.units=5", outputs=tmp_path)
    assert (answer.code, answer.err) == (0, "")
    assert len(output.read_text().splitlines()) == 5
    assert not list(tmp_path.rglob("pretrain-*"))
    (result,) = tmp_path.rglob("result.json")
    assert "dsel.scorer.dsir.Dsir" in result.read_text()
