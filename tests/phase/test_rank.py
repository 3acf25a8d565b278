"""Rankings of runs on files: their rows against scores, and what is said of mistakes."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from ranking_lab import RULES, RankingLab, ranking_config

from dsel.artifact import Store
from dsel.build import build
from dsel.context import TaskContext
from dsel.error import InputError
from dsel.labelled import read_tasks
from dsel.phase.map_fitting import MapFitting
from dsel.phase.rank import Rank, to_ranks
from dsel.phase.workbench import Workbench
from dsel.pipeline import Run
from dsel.protocol import TaskScorer
from dsel.state import State

COLUMNS = ["target", "source", "rank", "score", "low", "high", "in_top", "source_rows", "target_rows", "regression"]


@dataclass(frozen=True)
class Fixed:
    """Scores of the sources in the order of their names; those of a resample are turned round."""

    scores: Sequence[float]
    size: int = 60
    needs: Sequence[str] = ()

    def score(self, context: TaskContext) -> npt.NDArray[np.float64]:
        """Whole target or a part: by the number of its rows."""
        again = len(set(context.target.ids)) < self.size
        return np.array(self.scores[::-1] if again else self.scores, np.float64)


@pytest.fixture(scope="module")
def outputs(ranking: RankingLab) -> Path:
    return ranking.folder / "rankings"


def fold(ranking: RankingLab, outputs: Path, *overrides: str, targets: Sequence[str] = ("goal",)) -> tuple[State, pl.DataFrame]:
    config = ranking_config(ranking, outputs, *overrides, targets=targets)
    state = Run(config).fold(Store(outputs / "artifacts"))
    return state, pl.read_parquet(state.artifacts["rank"] / "ranking.parquet")


def by_scores(
    ranking: RankingLab, outputs: Path, scorer: TaskScorer, folder: Path, *, num_resamples: int = 0, partial: bool = False,
    targets: Sequence[str] = ("goal",),
) -> pl.DataFrame:  # fmt: skip
    """The phase alone with a scorer of the test's."""
    config = ranking_config(ranking, outputs, targets=targets)
    config["pipeline"] = ["encoder"]
    run, store = Run(config), Store(outputs / "artifacts")
    state = run.fold(store)
    phase = replace(build(config["phases"]["rank"]), scorer=scorer, num_resamples=num_resamples, partial=partial)
    folder.mkdir()
    phase.run(state, replace(run.world(store), name="rank"), folder)
    return pl.read_parquet(folder / "ranking.parquet")


def test_a_ranking(ranking: RankingLab, outputs: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        state, frame = fold(ranking, outputs, "task_scorer=esm_logme", targets=("goal", "weight"))
    assert frame.columns == COLUMNS
    assert frame["target"].to_list() == ["goal"] * 4 + ["weight"] * 4
    assert frame["regression"].to_list() == [False] * 4 + [True] * 4
    assert set(frame["source_rows"]) == {40}
    assert set(frame["target_rows"]) == {60}
    for _, own in frame.group_by("target"):
        assert sorted(own["source"]) == list(RULES)
        assert own["rank"].to_list() == [1, 2, 3, 4]
        assert own["score"].to_list() == sorted(own["score"], reverse=True)
        assert (own["low"] <= own["high"]).all()
        assert own["in_top"].is_between(0, 1).all()
    assert state.metrics["ms_per_source"] > 0
    assert state.metrics["bytes_per_source"] > 4 * 16 * 16
    assert state.cost["rank"]["ranked_sources"] == 4
    assert "goal: 60 rows are few to rank by: in resamples of them the first, " in caplog.text


def test_scores_are_those_of_the_workbench(ranking: RankingLab, outputs: Path) -> None:
    config = ranking_config(ranking, outputs, "task_scorer=logme")
    run, store = Run(config), Store(outputs / "artifacts")
    state = run.fold(store)
    frame = pl.read_parquet(state.artifacts["rank"] / "ranking.parquet")
    corpus, phase = run.world(store).corpus, run.phases["rank"]
    assert isinstance(phase, Rank)
    tasks = read_tasks({"source": corpus.source, "target": corpus.target})
    base = run.phases["encoder"].encoder.prepare(run.world(store))  # type: ignore[attr-defined]
    bench = Workbench(base, phase.tuning, MapFitting(), tasks["source"], store, 0)
    expected = phase.scorer.score(bench.context(tasks["target"]["goal"]))
    scores = dict(zip(frame["source"], frame["score"], strict=True))
    assert scores == pytest.approx(dict(zip(RULES, expected, strict=True)))


def test_found_again(ranking: RankingLab, outputs: Path) -> None:
    one, frame = fold(ranking, outputs, "task_scorer=source_size")
    two, again = fold(ranking, outputs, "task_scorer=source_size")
    assert two.cost["rank"]["reused"]
    assert frame.equals(again)
    assert one.metrics == two.metrics


def test_another_seed_is_another_ranking(ranking: RankingLab, outputs: Path) -> None:
    frames = [fold(ranking, outputs, "task_scorer=logme", f"seed={seed}")[1].sort("source") for seed in (0, 1)]
    assert not np.allclose(frames[0]["score"], frames[1]["score"])


def test_ties_share_their_ranks(ranking: RankingLab, outputs: Path, tmp_path: Path) -> None:
    frame = by_scores(ranking, outputs, Fixed([2.0, 5.0, np.nan, 2.0]), tmp_path / "a")
    assert frame["source"].to_list() == ["colour", "animal", "size", "length"]
    assert frame["rank"].to_list() == [1, 2.5, 2.5, 4]
    assert np.isnan(frame["score"].to_list()[3])
    for column in ("low", "high", "in_top"):
        assert frame[column].is_nan().all()


def test_resamples(ranking: RankingLab, outputs: Path, tmp_path: Path) -> None:
    """Of a scorer that turns the order round on each."""
    frame = by_scores(ranking, outputs, Fixed([4.0, 3.0, 2.0, 1.0]), tmp_path / "a", num_resamples=4)
    assert frame["source"].to_list() == list(RULES)
    assert frame["low"].to_list() == frame["high"].to_list() == [4, 3, 2, 1]
    assert frame["in_top"].to_list() == [0, 1, 1, 1]


@dataclass(frozen=True)
class Reader:
    """Keeps the ids of the target's rows and their embeddings."""

    found: list[tuple[list[str], npt.NDArray[np.float32]]]
    needs: Sequence[str] = ()

    def score(self, context: TaskContext) -> npt.NDArray[np.float64]:
        """In the order of the sources' names."""
        self.found.append((list(context.target.ids), context.base()))
        return np.arange(4.0)


def test_resamples_share_the_targets_embeddings(
    ranking: RankingLab, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which are read once for all of them."""
    asked, embed, reader = [], Workbench.embed, Reader([])

    def counted(*given: Any) -> Any:
        asked.append(1)
        return embed(*given)

    monkeypatch.setattr(Workbench, "embed", counted)
    by_scores(ranking, outputs, reader, tmp_path / "a", num_resamples=4)
    (ids, whole), *parts = reader.found
    assert len(asked) == 2  # for the scores, then for the resamples
    assert len(parts) == 4
    for some, base in parts:
        np.testing.assert_array_equal(base, whole[[ids.index(row) for row in some]])


def test_no_resamples(ranking: RankingLab, outputs: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, frame = fold(ranking, outputs, "task_scorer=random_order", "phases.rank.num_resamples=0")
    assert frame["rank"].to_list() == [2.5] * 4
    assert "few to rank by" not in caplog.text


def test_too_few_rows(ranking: RankingLab, outputs: Path) -> None:
    with pytest.raises(InputError, match=r"task small: 15 rows to rank by, of which a ranking needs 20 at least; label more"):
        fold(ranking, outputs, "task_scorer=random_order", targets=("small",))


def test_nothing_to_say(ranking: RankingLab, outputs: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of a regression: an error, or left out where that was asked for."""
    message = r"task weight: Nce has no score for a regression target; give task_scorer=esm_logme or another"
    with pytest.raises(InputError, match=message):
        fold(ranking, outputs, "task_scorer=nce", targets=("goal", "weight"))
    with caplog.at_level(logging.INFO):
        _, frame = fold(ranking, outputs, "task_scorer=nce", "phases.rank.partial=true", targets=("goal", "weight"))
    assert set(frame["target"]) == {"goal"}
    assert frame["source"].to_list()[3] == "length"
    assert "Nce: no score for weight, which is left out" in caplog.text
    with pytest.raises(InputError, match=r"phases\.rank: Nce has nothing to say of any target; give another task_scorer="):
        fold(ranking, outputs, "task_scorer=nce", "phases.rank.partial=true", targets=("weight",))


def test_without_an_encoder(ranking: RankingLab, outputs: Path) -> None:
    with pytest.raises(InputError, match=r"phases\.rank: tasks are learnt from an encoder; put the phase encoder before it in pipeline"):
        fold(ranking, outputs, "pipeline=[rank]")


def test_rows_that_are_cut_are_told(ranking: RankingLab, outputs: Path, caplog: pytest.LogCaptureFixture) -> None:
    fold(ranking, outputs, "task_scorer=vocabulary_overlap", "encoder.context=9")
    cut = [line for line in caplog.messages if "are longer than encoder.context=9 tokens, and were cut" in line]
    assert len(cut) == 5


def test_the_encoder_that_is_written_down(ranking: RankingLab, outputs: Path) -> None:
    state, _ = fold(ranking, outputs, "task_scorer=random_order")
    record = json.loads((state.artifacts["encoder"] / "base.json").read_text())
    assert (record["place"], record["pooling"], record["context"]) == (str(ranking.encoder), "mean", 12)


@given(st.lists(st.floats(-5, 5) | st.just(float("nan")), min_size=1, max_size=12))
def test_ranks(scores: list[float]) -> None:
    ranks, values = to_ranks(np.array(scores)), np.array(scores)
    known = ~np.isnan(values)
    np.testing.assert_array_equal(ranks[known], scipy.stats.rankdata(-values[known]))
    if not known.all():
        assert set(ranks[~known]) == {(known.sum() + 1 + len(values)) / 2}
