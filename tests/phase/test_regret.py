"""Regret of made-up rankings, by hand and by scikit-learn; and of a run on files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy.stats
from laboratory import Lab
from ranking_lab import RankingLab, ranking_config
from sklearn.metrics import ndcg_score

from dsel.artifact import Store
from dsel.error import InputError
from dsel.phase.regret import Regret
from dsel.pipeline import Run
from dsel.state import State

GOAL = {"a": 0.6, "b": 0.9, "c": 0.5, "none": 0.7}
BETTER_ALONE = {"a": 0.6, "b": 0.4, "c": 0.5, "none": 0.8}
WEIGHT = {"a": 0.1, "b": 0.3, "c": -0.2, "none": 0.2}


def state_of(
    folder: Path, performances: dict[str, dict[str, float]], ranks: dict[str, dict[str, float]], regressions: tuple[str, ...] = ()
) -> State:
    """After a ranking and transfers, twice each."""
    for name in ("rank", "transfer"):
        (folder / name).mkdir()
    ranked = [
        {"target": target, "source": source, "rank": rank, "regression": target in regressions}
        for target, own in ranks.items()
        for source, rank in sorted(own.items(), key=lambda item: item[1])
    ]
    transfers = [
        {"target": target, "source": source, "repeat": repeat, "performance": value + (0.01, -0.01)[repeat], "regression": False}
        for target, own in performances.items()
        for source, value in own.items()
        for repeat in range(2)
    ]
    pl.DataFrame(ranked).write_parquet(folder / "rank" / "ranking.parquet")
    pl.DataFrame(transfers).write_parquet(folder / "transfer" / "transfer.parquet")
    return State("x", {name: folder / name for name in ("rank", "transfer")})


def measure(lab: Lab, folder: Path, state: State, ks: tuple[int, ...] = (1, 2, 5)) -> tuple[dict[str, float], pl.DataFrame]:
    (folder / "regret").mkdir()
    phase, world = Regret(ks), replace(lab.world, name="regret")
    phase.run(state, world, folder / "regret")
    return dict(phase.read(state, world, folder / "regret").metrics), pl.read_parquet(folder / "regret" / "regret.parquet")


def test_by_hand(lab: Lab, tmp_path: Path) -> None:
    ranks = {"goal": {"a": 1.0, "b": 2.0, "c": 3.0}}
    metrics, frame = measure(lab, tmp_path, state_of(tmp_path, {"goal": GOAL}, ranks))
    assert metrics["regret_1"] == pytest.approx(100 * (0.9 - 0.6) / 0.9)
    assert metrics["regret_2"] == pytest.approx(0, abs=1e-9)
    assert metrics["regret_5"] == pytest.approx(0, abs=1e-9)  # of three
    gains = np.array([2 ** (100 * GOAL[name] - 90) for name in "abc"])  # of hundreds of bits, the one that is taken off is lost
    assert metrics["ndcg"] == pytest.approx(ndcg_score([gains], [[3, 2, 1]]), rel=1e-6)
    assert metrics["rank_correlation"] == pytest.approx(scipy.stats.spearmanr([3, 2, 1], [0.6, 0.9, 0.5]).statistic)
    assert frame["target"].to_list() == ["goal"]


def test_the_best_may_be_no_transfer(lab: Lab, tmp_path: Path) -> None:
    metrics, _ = measure(lab, tmp_path, state_of(tmp_path, {"goal": BETTER_ALONE}, {"goal": {"a": 1.0, "b": 2.0, "c": 3.0}}))
    assert metrics["regret_1"] == pytest.approx(100 * (0.8 - 0.6) / 0.8)
    assert metrics["regret_5"] == pytest.approx(100 * (0.8 - 0.6) / 0.8)


def test_means_over_targets_of_each_kind(lab: Lab, tmp_path: Path) -> None:
    order = {"a": 1.0, "b": 2.0, "c": 3.0}
    ranks = {"weight": order, "goal": order, "other": {"b": 1.0, "a": 2.0, "c": 3.0}}
    performances: dict[str, Any] = {"goal": GOAL, "weight": WEIGHT, "other": GOAL, "not ranked": GOAL}
    metrics, frame = measure(lab, tmp_path, state_of(tmp_path, performances, ranks, ("weight",)))
    assert metrics["regret_1"] == pytest.approx((100 * 0.3 / 0.9 + 0) / 2)
    assert metrics["regret_1_regression"] == pytest.approx(100 * (0.3 - 0.1) / 0.3)
    assert metrics["regret_2_regression"] == pytest.approx(0, abs=1e-9)
    names = ("regret_1", "regret_2", "regret_5", "ndcg", "rank_correlation")
    assert set(metrics) == {*names, *(f"{name}_regression" for name in names)}
    assert frame["target"].to_list() == ["weight", "goal", "other"]
    assert frame["regression"].to_list() == [True, False, False]


def test_ties(lab: Lab, tmp_path: Path) -> None:
    """The mean over the orders of those that tie; a correlation with nothing that varies is 0."""
    metrics, _ = measure(lab, tmp_path, state_of(tmp_path, {"goal": GOAL}, {"goal": dict.fromkeys("abc", 2.0)}))
    assert metrics["regret_1"] == pytest.approx(100 * np.mean([0.3, 0.0, 0.4]) / 0.9)
    assert metrics["regret_2"] == pytest.approx(100 * (0.9 - 0.6) / 0.9 / 3)
    assert metrics["rank_correlation"] == 0


@pytest.mark.parametrize("missing", ["c", "none"])
def test_not_all_transfers(lab: Lab, tmp_path: Path, missing: str) -> None:
    performances = {name: value for name, value in GOAL.items() if name != missing}
    with pytest.raises(InputError, match=r"target goal: not all of its sources were transferred from; set phases\.transfer\.top=null"):
        measure(lab, tmp_path, state_of(tmp_path, {"goal": performances}, {"goal": {"a": 1.0, "b": 2.0, "c": 3.0}}))


@pytest.mark.parametrize("missing", ["ranking.parquet", "transfer.parquet"])
def test_a_phase_is_missing(lab: Lab, tmp_path: Path, missing: str) -> None:
    state = state_of(tmp_path, {"goal": GOAL}, {"goal": {"a": 1.0}})
    next(tmp_path.rglob(missing)).unlink()
    with pytest.raises(InputError, match=rf"phases\.regret: needs {missing}; put the phases rank and transfer before it in pipeline"):
        measure(lab, tmp_path, state)


def test_a_run(ranking: RankingLab) -> None:
    """Through all phases; its measures are those of its tables."""
    outputs = ranking.folder / "transfers"  # shared with the tests of transfers
    given = ["transfer=4", "pipeline=[encoder,rank,transfer,regret]", "phases.transfer={top: null, num_repeats: 1}", "task_scorer=logme"]
    config = ranking_config(ranking, outputs, *given, "phases.rank.num_resamples=0")
    state = Run(config).fold(Store(outputs / "artifacts"))
    rows = pl.read_parquet(state.artifacts["transfer"] / "transfer.parquet")
    performance = dict(rows.select("source", "performance").iter_rows())
    first = pl.read_parquet(state.artifacts["rank"] / "ranking.parquet")["source"][0]
    best = max(performance.values())
    assert state.metrics["regret_1"] == pytest.approx(100 * (best - performance[first]) / best)
    assert state.metrics["transfer_none"] == performance["none"]
