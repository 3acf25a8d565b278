"""Transfers of runs on files: which are made, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
from ranking_lab import RULES, RankingLab, ranking_config

from dsel.artifact import Store
from dsel.error import InputError
from dsel.phase.transfer import Transfer, _summarise
from dsel.pipeline import Run
from dsel.state import State

ALL = ["pipeline=[encoder,transfer]", "phases.transfer.top=null", "phases.transfer.num_repeats=1", "transfer=1"]
BEST = ["transfer=2", "task_scorer=source_size", "phases.rank.num_resamples=0"]


@pytest.fixture(scope="module")
def outputs(ranking: RankingLab) -> Path:
    return ranking.folder / "transfers"


def fold(ranking: RankingLab, outputs: Path, *overrides: str, targets: Sequence[str] = ("goal",)) -> tuple[State, pl.DataFrame]:
    state = Run(ranking_config(ranking, outputs, *overrides, targets=targets)).fold(Store(outputs / "artifacts"))
    return state, pl.read_parquet(state.artifacts["transfer"] / "transfer.parquet")


def test_all_sources(ranking: RankingLab, outputs: Path) -> None:
    state, frame = fold(ranking, outputs, *ALL, targets=("goal", "weight"))
    assert frame.columns == ["target", "source", "repeat", "performance", "regression"]
    for (target, regression), own in frame.group_by("target", "regression"):
        assert regression == (target == "weight")
        assert own["source"].to_list() == ["none", *RULES]
        assert own["repeat"].to_list() == [0] * 5
    assert frame["performance"].is_between(-1, 1).all()
    assert state.cost["transfer"]["transfers"] == 10
    goal = dict(frame.filter(pl.col("target") == "goal").select("source", "performance").iter_rows())
    assert state.metrics["transfer_none"] == goal["none"]
    assert state.metrics["transfer_best"] == max(goal[name] for name in RULES)
    assert state.metrics["transfer_mean"] == pytest.approx(sum(goal[name] for name in RULES) / 4)
    assert state.metrics["transfer_helps"] == sum(goal[name] > goal["none"] for name in RULES) / 4
    assert {f"transfer_{name}_regression" for name in ("none", "mean", "best", "helps")} < set(state.metrics)


def test_the_first_of_a_ranking(ranking: RankingLab, outputs: Path) -> None:
    """All of them tie, so that the first are those in the order of the table."""
    state, frame = fold(ranking, outputs, *BEST, "phases.transfer.num_repeats=2")
    ranked = pl.read_parquet(state.artifacts["rank"] / "ranking.parquet")["source"].to_list()
    assert list(zip(frame["source"], frame["repeat"], strict=True)) == [(name, n) for name in ("none", *ranked[:2]) for n in (0, 1)]
    assert state.cost["transfer"]["transfers"] == 6


def test_the_first_of_no_ranking(ranking: RankingLab, outputs: Path) -> None:
    with pytest.raises(InputError, match=r"phases\.transfer\.top=2: of what ranking\? put the phase rank before it in pipeline"):
        fold(ranking, outputs, *BEST, "pipeline=[encoder,transfer]")


def test_no_test_rows(ranking: RankingLab, outputs: Path) -> None:
    with pytest.raises(InputError, match=r"phases\.transfer: goal has no test rows to measure on; raise split\.test"):
        fold(ranking, outputs, *ALL, "split.test=0.0")


def test_the_same_elsewhere(ranking: RankingLab, outputs: Path, tmp_path: Path) -> None:
    one, other = (fold(ranking, place, *ALL)[1] for place in (outputs, tmp_path))
    assert one.equals(other)


@pytest.mark.parametrize("changes", [{"top": 0}, {"num_repeats": 0}])
def test_mistakes(changes: dict[str, int]) -> None:
    ((key, value),) = changes.items()
    with pytest.raises(InputError, match=f"phase transfer: {key}={value}: must be 1 or more"):
        Transfer(tuning=None, **changes)  # type: ignore[arg-type]


def test_means_over_targets_and_repeats() -> None:
    rows = [
        ("a", "none", 0, 0.5, False), ("a", "none", 1, 0.7, False), ("a", "x", 0, 0.8, False), ("a", "x", 1, 0.6, False),
        ("a", "y", 0, 0.5, False), ("a", "y", 1, 0.5, False), ("b", "none", 0, 0.2, False), ("b", "x", 0, 0.1, False),
        ("b", "y", 0, 0.2, False), ("c", "none", 0, -0.1, True), ("c", "x", 0, 0.3, True),
    ]  # fmt: skip
    found = _summarise(pl.DataFrame(rows, schema=["target", "source", "repeat", "performance", "regression"], orient="row"))
    classes = {"none": (0.6 + 0.2) / 2, "mean": (0.7 + 0.5 + 0.1 + 0.2) / 4, "best": (0.7 + 0.2) / 2, "helps": 1 / 4}
    numbers = {"none": -0.1, "mean": 0.3, "best": 0.3, "helps": 1.0}
    classes["reliability"] = 1.0  # of a, which alone was repeated: x before y, both times
    expected = {f"transfer_{name}": value for name, value in classes.items()}
    assert found == pytest.approx(expected | {f"transfer_{name}_regression": value for name, value in numbers.items()})


def test_a_kind_of_target_without_a_source() -> None:
    """As where a scorer says nothing of regressions, and the first of its ranking are asked for."""
    rows = [("a", "none", 0, 0.5, False), ("a", "x", 0, 0.8, False), ("b", "none", 0, 0.3, True)]
    found = _summarise(pl.DataFrame(rows, schema=["target", "source", "repeat", "performance", "regression"], orient="row"))
    assert found["transfer_none_regression"] == 0.3
    assert "transfer_best_regression" not in found
    assert found["transfer_best"] == 0.8
