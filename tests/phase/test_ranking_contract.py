"""What every phase promises, of those that rank tasks."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from made_up_corpus import RandomState
from ranking_lab import RankingLab, ranking_config

from dsel.artifact import Store, read_record
from dsel.pipeline import Run
from dsel.state import State

FILES = {"rank": "ranking.parquet", "transfer": "transfer.parquet", "regret": "regret.parquet"}
TIMED = ("ms_per_source",)


def fold(lab: RankingLab, outputs: Path) -> State:
    overrides = ["pipeline=[encoder,rank,transfer,regret]", "split.target=0.5", "split.finetune=0.5", "split.test=0.5"]
    config = ranking_config(lab, outputs, *overrides, "phases.transfer.top=null", "phases.transfer.num_repeats=2")
    return Run(config).fold(Store(outputs / "artifacts"))


@pytest.fixture(scope="module")
def twice(ranking: RankingLab, tmp_path_factory: pytest.TempPathFactory) -> tuple[State, State, State]:
    """In a store, again in it, and in another one."""
    first, other = (tmp_path_factory.mktemp(name) for name in ("first", "other"))
    return fold(ranking, first), fold(ranking, first), fold(ranking, other)


@pytest.mark.parametrize("name", ["encoder", *FILES])
def test_a_phase_is_computed_once_and_read_alike(name: str, twice: tuple[State, State, State]) -> None:
    first, again, _ = twice
    assert not first.cost[name]["reused"]
    assert again.cost[name]["reused"]
    assert again.artifacts[name] == first.artifacts[name]
    assert again.metrics == first.metrics
    assert all(isinstance(value, int | float) for value in read_record(first.artifacts[name]).values())


@pytest.mark.parametrize("name", FILES)
def test_another_store_leads_to_the_same(name: str, twice: tuple[State, State, State]) -> None:
    first, _, other = twice
    own, others = (pl.read_parquet(state.artifacts[name] / FILES[name]) for state in (first, other))
    assert own.equals(others)
    assert own.height > 0


def test_metrics_are_the_same_but_for_times(twice: tuple[State, State, State]) -> None:
    first, _, other = twice
    assert first.metrics.keys() == other.metrics.keys()
    for key in first.metrics.keys() - set(TIMED):
        assert first.metrics[key] == other.metrics[key], key
    assert {"regret_1", "ndcg", "transfer_none", "transfer_reliability", "bytes_per_source"} <= first.metrics.keys()


def test_global_randomness_is_left_alone(ranking: RankingLab, tmp_path: Path) -> None:
    before = RandomState.now()
    fold(ranking, tmp_path)
    assert RandomState.now() == before
