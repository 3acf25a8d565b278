"""Every scorer of tasks against what the test computes of embeddings, outputs and tokens by itself."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from ranking_lab import RULES, RankingLab
from scipy.special import softmax
from scipy.stats import pearsonr
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from transformers import AutoModel, AutoTokenizer

from dsel.context import TaskContext
from dsel.error import InputError
from dsel.functional.logme import logme
from dsel.functional.map_file import load, save
from dsel.functional.space_map import SpaceMap
from dsel.functional.transferability import leep, nce
from dsel.labelled import LabelledTask
from dsel.phase.map_cache import MapCache
from dsel.task_scorer.esm_logme import EsmLogme
from dsel.task_scorer.frozen_transfer import FrozenTransfer
from dsel.task_scorer.leep import Leep
from dsel.task_scorer.logme import Logme
from dsel.task_scorer.nce import Nce
from dsel.task_scorer.random_order import RandomOrder
from dsel.task_scorer.source_size import SourceSize
from dsel.task_scorer.task_embedding import TaskEmbedding
from dsel.task_scorer.text_embedding import TextEmbedding
from dsel.task_scorer.vocabulary_overlap import VocabularyOverlap

ALL = [
    EsmLogme(), FrozenTransfer(), Leep(), Logme(), Nce(), RandomOrder(), SourceSize(), TaskEmbedding(), TextEmbedding(),
    VocabularyOverlap(),
]  # fmt: skip
Vectors = npt.NDArray[np.float32]
REGRESSION = RULES.index("length")
ROWS = np.array([3, 3, 0, 17, 39, 5, 21, 8, 8, 30, 11, 12, 1, 25, 28, 33, 36, 2, 19, 20, 22, 24])


def embeddings(encoder: Any, texts: list[str], lab: RankingLab) -> Vectors:
    """Means of last states, a text at a time, by transformers alone."""
    tokenizer, found = AutoTokenizer.from_pretrained(lab.encoder), []
    for text in texts:
        with torch.inference_mode():
            given = tokenizer(text, truncation=True, max_length=lab.base.context, return_tensors="pt")
            found.append(encoder.eval()(**given).last_hidden_state[0].mean(0).numpy())
    return np.array(found)


@pytest.fixture(scope="module")
def base(ranking: RankingLab) -> Vectors:
    """Of the target's rows."""
    return embeddings(AutoModel.from_pretrained(ranking.encoder), list(ranking.target.first), ranking)


@pytest.fixture(scope="module")
def tuned(ranking: RankingLab) -> dict[str, tuple[Vectors, Vectors]]:
    """Embeddings and outputs of the target's rows by source."""
    from safetensors.numpy import load_file

    found = {}
    for name in RULES:
        folder = ranking.bench.tuned(ranking.bench.sources[name])
        rows = embeddings(AutoModel.from_pretrained(folder / "encoder"), list(ranking.target.first), ranking)
        head = load_file(folder / "head.safetensors")
        found[name] = rows, rows @ head["weight"].T + head["bias"]
    return found


@pytest.fixture(scope="module")
def context(ranking: RankingLab) -> TaskContext:
    return ranking.bench.context(ranking.target)


@pytest.mark.parametrize("scorer", ALL, ids=lambda scorer: type(scorer).__name__)
@pytest.mark.parametrize("which", ["classes", "numbers"])
@pytest.mark.parametrize("rows", [None, ROWS], ids=["all", "some"])
def test_a_score_a_source(ranking: RankingLab, scorer: Any, which: str, rows: npt.NDArray[np.int64] | None) -> None:
    target = ranking.target if which == "classes" else ranking.weight
    scores = scorer.score(ranking.bench.context(target, rows))
    assert scores.shape == (len(RULES),)
    assert scores.dtype == np.float64
    says = np.ones(len(RULES), bool)
    if isinstance(scorer, Leep | Nce):
        says[:] = which == "classes"
        says[REGRESSION] = False
    np.testing.assert_array_equal(np.isfinite(scores), says)
    assert np.isnan(scores[~says]).all()
    np.testing.assert_array_equal(scores, scorer.score(ranking.bench.context(target, rows)))


@pytest.mark.parametrize("scorer", [EsmLogme(), FrozenTransfer(), Leep(), Logme(), Nce()], ids=lambda scorer: type(scorer).__name__)
def test_the_task_that_asks_the_same_is_first(context: TaskContext, scorer: Any) -> None:
    scores = scorer.score(context)
    assert int(np.nanargmax(scores)) == RULES.index("colour")


def test_the_task_that_asks_the_same_number_is_first(ranking: RankingLab) -> None:
    assert int(np.argmax(Logme().score(ranking.bench.context(ranking.weight)))) == REGRESSION


def test_logme(context: TaskContext, ranking: RankingLab, tuned: dict[str, tuple[Vectors, Vectors]]) -> None:
    expected = [logme(tuned[name][0], ranking.target.labels, regression=False) for name in RULES]
    np.testing.assert_allclose(Logme().score(context), expected, atol=2e-3)


def test_esm_logme(context: TaskContext, ranking: RankingLab, base: Vectors) -> None:
    expected = []
    for name in RULES:
        folder = ranking.bench.space_map(ranking.bench.sources[name])[1]
        assert folder is not None
        given = load(folder)[0]
        expected.append(logme(base @ given.weight.T + given.bias, ranking.target.labels, regression=False))
    np.testing.assert_allclose(EsmLogme().score(context), expected, atol=2e-3)
    assert len({round(score, 6) for score in expected}) == len(RULES)


def test_leep_and_nce(context: TaskContext, ranking: RankingLab, tuned: dict[str, tuple[Vectors, Vectors]]) -> None:
    labels = ranking.target.labels.astype(np.int64)
    names = [name for name in RULES if name != "length"]
    keep = [RULES.index(name) for name in names]
    probabilities = [softmax(tuned[name][1].astype(np.float64), axis=1) for name in names]
    np.testing.assert_allclose(Leep().score(context)[keep], [leep(each, labels) for each in probabilities], atol=1e-3)
    np.testing.assert_allclose(Nce().score(context)[keep], [nce(each.argmax(1), labels) for each in probabilities], atol=1e-6)


def test_frozen_transfer(context: TaskContext, ranking: RankingLab, tuned: dict[str, tuple[Vectors, Vectors]]) -> None:
    """The rows held out are drawn from the context's seed."""
    order = np.random.default_rng(context.seed).permutation(40)
    held, rest = order[:8], order[8:]
    for score, name in zip(FrozenTransfer().score(context), RULES, strict=True):
        scaler = StandardScaler().fit(tuned[name][0][rest].astype(np.float64))
        fitted = LogisticRegression().fit(scaler.transform(tuned[name][0][rest]), ranking.target.labels[rest])
        accuracy = (fitted.predict(scaler.transform(tuned[name][0][held])) == ranking.target.labels[held]).mean()
        assert score == pytest.approx(accuracy, abs=0.126)  # a row more or less, where two classes are about as likely
    other = replace(context, target=ranking.target, seed=context.seed + 1)
    assert FrozenTransfer(0.5).score(other).shape == (4,)


def test_frozen_transfer_of_numbers(ranking: RankingLab) -> None:
    context = ranking.bench.context(ranking.weight)
    order = np.random.default_rng(context.seed).permutation(40)
    held, rest = order[:20], order[20:]
    rows = context.tuned("length").embeddings
    scaler = StandardScaler().fit(rows[rest].astype(np.float64))
    said = Ridge(1.0).fit(scaler.transform(rows[rest]), ranking.weight.labels[rest]).predict(scaler.transform(rows[held]))
    expected = pearsonr(said, ranking.weight.labels[held]).statistic
    assert FrozenTransfer(0.5).score(context)[REGRESSION] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.2])
def test_a_share_that_leaves_nothing(share: float) -> None:
    with pytest.raises(InputError, match=rf"task_scorer\.held_out_share={share}: must be above 0 and below 1"):
        FrozenTransfer(share)


def test_vocabulary_overlap(context: TaskContext, ranking: RankingLab) -> None:
    tokenizer = AutoTokenizer.from_pretrained(ranking.encoder)

    def words(task: LabelledTask) -> set[int]:
        return {token for text in task.first for token in tokenizer(text, truncation=True, max_length=12)["input_ids"]}

    own = words(ranking.target)
    others = [words(ranking.bench.sources[name]) for name in RULES]
    np.testing.assert_allclose(VocabularyOverlap().score(context), [len(own & other) / len(own | other) for other in others])
    few = replace(ranking.target, first=["red one"] * 40)
    expected = [len(words(few) & other) / len(words(few) | other) for other in others]
    np.testing.assert_allclose(VocabularyOverlap().score(ranking.bench.context(few)), expected)
    assert max(expected) < 0.5


def test_source_size_and_random_order(context: TaskContext, ranking: RankingLab) -> None:
    sizes = {name: replace(context.rows(name), first=["x"] * size) for size, name in enumerate(RULES, 3)}
    assert SourceSize().score(replace(context, rows=sizes.__getitem__)).tolist() == [3, 4, 5, 6]
    assert SourceSize().score(context).tolist() == [60] * 4
    assert RandomOrder().score(context).tolist() == [0] * 4


def test_text_embedding(context: TaskContext, ranking: RankingLab, base: Vectors) -> None:
    encoder, own, expected = AutoModel.from_pretrained(ranking.encoder), base.mean(0), []
    for name in RULES:
        other = embeddings(encoder, list(ranking.bench.sources[name].first), ranking).mean(0)
        expected.append(own @ other / np.linalg.norm(own) / np.linalg.norm(other))
    np.testing.assert_allclose(TextEmbedding().score(context), expected, atol=1e-5)


def test_task_embedding(ranking: RankingLab) -> None:
    """Of itself 1, and of two tasks the same both ways."""
    bench = ranking.bench
    one, other = bench.sources["animal"], bench.sources["size"]
    there = TaskEmbedding().score(bench.context(one))
    back = TaskEmbedding().score(bench.context(other))
    assert there[RULES.index("animal")] == pytest.approx(1)
    assert there[RULES.index("size")] == pytest.approx(back[RULES.index("animal")])
    assert 0 < there[RULES.index("size")] < 0.999
    fishers = [bench.fisher(task).astype(np.float64) for task in (one, other)]
    cosine = fishers[0] @ fishers[1] / np.linalg.norm(fishers[0]) / np.linalg.norm(fishers[1])
    assert there[RULES.index("size")] == pytest.approx(cosine)


def test_rows_that_are_asked_for(ranking: RankingLab, context: TaskContext) -> None:
    """A resample's rows are those of the whole, in its order."""
    some = ranking.bench.context(ranking.target, ROWS)
    assert list(some.target.first) == [ranking.target.first[row] for row in ROWS]
    np.testing.assert_array_equal(some.target.labels, ranking.target.labels[ROWS])
    np.testing.assert_array_equal(some.base(), context.base()[ROWS])
    for name in RULES:
        seen, whole = some.tuned(name), context.tuned(name)
        np.testing.assert_array_equal(seen.embeddings, whole.embeddings[ROWS])
        np.testing.assert_array_equal(seen.outputs, whole.outputs[ROWS])
        np.testing.assert_array_equal(some.base_of(name), context.base_of(name))


def test_maps_from_elsewhere(ranking: RankingLab, base: Vectors, tmp_path: Path) -> None:
    """Those that are given are used, and nothing is tuned for them."""
    rng = np.random.default_rng(0)
    given = SpaceMap((rng.normal(size=(16, 16)).astype(np.float32),), np.zeros(16, np.float32))
    place = tmp_path / "one"
    save(place, given, {"base_model_name": ranking.bench.base.name, "task_id": "any"})
    maps = MapCache(ranking.bench.base, dict.fromkeys(ranking.bench.sources, place), None)
    bench = replace(ranking.bench, maps=maps, tuning=partial)  # type: ignore[arg-type]
    expected = logme(base @ given.weight.T, ranking.target.labels, regression=False)
    np.testing.assert_allclose(EsmLogme().score(bench.context(ranking.target)), [expected] * 4, atol=2e-3)
    assert bench.prepare("map", bench.sources["animal"]) == 4 * (16 * 16 + 16)
