"""A search by Optuna: it goes on where it was, prunes what is hopeless, and says what was best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command import dsel, without_training

from dsel.error import InputError, Pruned
from dsel.progress import here
from dsel.sweep.status import read_status
from dsel.sweep.study import open_study, reporter

optuna = pytest.importorskip("optuna")
SWEEPER = {"pruner": "median", "sampler": "tpe", "direction": "minimize", "seed": 0, "prune_phase": "continue"}


@pytest.fixture
def search(tmp_path: Path) -> list[str]:
    """Over the budget, without training."""
    sweeper = ["hydra/sweeper=optuna", "hydra.sweeper.direction=maximize", "hydra.sweeper.num_trials=4", "hydra.sweeper.params={}"]
    return [*without_training(tmp_path), "seed=0", "arm=dsir", "objective=selector_recall", *sweeper]


def test_a_search_finds_the_best_and_goes_on(search: list[str], tmp_path: Path) -> None:
    answer = dsel(*search, "budget.fraction=interval(0.05,0.9)", outputs=tmp_path)
    assert (answer.code, answer.err) == (0, "")
    folder = tmp_path / "runs" / "demo"
    results = [json.loads(path.read_text()) for path in folder.rglob("result.json")]
    best = json.loads((folder / "best.json").read_text())
    assert len(results) == best["trials"] == 4
    assert best["selector_recall"] == max(result["metrics"]["selector_recall"] for result in results)
    assert "best of 4 trials: selector_recall" in answer.out
    dsel(*[word.replace("num_trials=4", "num_trials=6") for word in search], "budget.fraction=interval(0.05,0.9)", outputs=tmp_path)
    assert read_status(folder).counts == {"done": 6}


def test_choices_that_come_again_share_a_cell(search: list[str], tmp_path: Path) -> None:
    assert dsel(*search, "budget.fraction=0.1,0.2", outputs=tmp_path).code == 0
    assert len(list((tmp_path / "runs").rglob("result.json"))) <= 2
    study = open_study(tmp_path / "runs" / "demo", direction="maximize")
    assert len(study.trials) == 4


def test_a_failed_trial_does_not_end_the_search(search: list[str], tmp_path: Path) -> None:
    answer = dsel(*search, "budget.fraction=0.1,2", outputs=tmp_path)
    assert "budget.fraction=2: must be above 0" in answer.err
    states = {trial.state.name for trial in open_study(tmp_path / "runs" / "demo", direction="maximize").trials}
    assert states == {"COMPLETE", "FAIL"}


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["budget.fraction=0.1"], "hydra/sweeper=optuna: nothing to search; give a key several values"),
        (["budget.fraction=0.1,0.2", "objective=blue"], "objective=blue: the cell .* has no such metric; it has selector_precision, "),
        (["budget.fraction=0.1,0.2", "hydra.sweeper.pruner=media"], "hydra.sweeper.pruner=media: must be one of none, median, halving"),
    ],
)
def test_mistakes(more: list[str], line: str, search: list[str], tmp_path: Path) -> None:
    import re

    assert re.match(line, dsel(*search, *more, "hydra.mode=MULTIRUN", outputs=tmp_path).error)


def test_an_interval_without_a_search(search: list[str], tmp_path: Path) -> None:
    plain = [word for word in search if not word.startswith(("hydra.sweeper", "hydra/sweeper"))]
    answer = dsel(*plain, "budget.fraction=interval(0.1,0.2)", outputs=tmp_path)
    assert answer.error.startswith("budget.fraction=interval(0.1,0.2): an interval is for searches")


def test_a_hopeless_trial_is_pruned(tmp_path: Path) -> None:
    study = open_study(tmp_path, "median")
    for _ in range(6):
        trial = study.ask({})
        report = reporter(tmp_path, trial.number, SWEEPER)
        for step in range(3):
            report("continue", step, 1.0)
        study.tell(trial, 1.0)
    report = reporter(tmp_path, study.ask({}).number, SWEEPER)
    report("pretrain", 0, 9.0)  # not the phase that is looked at
    with pytest.raises(Pruned, match="pruned in continue at step 2: 9 is no better than what others had there"):
        report("continue", 2, 9.0)


def test_a_pruned_cell_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, search: list[str]) -> None:
    def prune(*_: Any, **__: Any) -> None:
        raise Pruned("pruned in score at step 1")

    monkeypatch.setattr("dsel.scorer.dsir.Dsir.fit", prune)
    answer = dsel(*search, "budget.fraction=0.1,0.2", outputs=tmp_path)
    assert "failed" not in answer.err
    assert set(read_status(tmp_path / "runs" / "demo").counts) == {"pruned"}


def test_nothing_is_reported_outside_of_a_search() -> None:
    assert here.report is None


def test_a_study_of_a_sampler_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"hydra.sweeper.sampler=grid: must be one of tpe, random"):
        open_study(tmp_path, sampler="grid")
