"""A sweep from the command line: pairs of values, numbers, failures, and what Ctrl-C leaves."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from command import dsel, without_training

from dsel.functional.cores import THREADS, num_cores
from dsel.sweep.plan import read_plan
from dsel.sweep.status import read_status
from hydra_plugins.dsel.grid import shared_cores, spread


@pytest.fixture
def sweep(tmp_path: Path) -> list[str]:
    """A sweep without training."""
    return [*without_training(tmp_path), "seed=0"]


def overrides(folder: Path, *keys: str) -> list[list[str]]:
    """What each cell was given for `keys`, by its number."""
    plan = read_plan(folder)
    assert plan is not None
    given = [dict(override.split("=", 1) for override in cell.overrides) for cell in plan.cells.values()]
    return [[cell[key] for key in keys] for cell in given]


def test_pairs_go_together_beside_a_product(sweep: list[str], tmp_path: Path) -> None:
    pairs = "hydra.sweeper.pairs=[{budget.fraction: '0.1,0.2', split.planted: '3,4'}]"
    free = [argument for argument in sweep if not argument.startswith("split.planted")]
    answer = dsel(*free, pairs, "arm=random,domain_classifier", outputs=tmp_path)
    assert (answer.code, answer.err) == (0, "")
    found = overrides(tmp_path / "runs" / "demo", "arm", "budget.fraction", "split.planted")
    assert sorted(found) == [[arm, *pair] for arm in ("domain_classifier", "random") for pair in (["0.1", "3"], ["0.2", "4"])]


def test_one_value_on_the_command_line_stands_above_a_pair(sweep: list[str], tmp_path: Path) -> None:
    pairs = "hydra.sweeper.pairs=[{budget.fraction: '0.1,0.2', split.planted: '3,4'}]"
    dsel(*sweep, pairs, "arm=random", outputs=tmp_path)
    found = overrides(tmp_path / "runs" / "demo", "budget.fraction", "split.planted")
    assert found == [["0.1", "5"], ["0.2", "5"]]


@pytest.mark.parametrize(
    ("pairs", "more", "line"),
    [
        ("[{budget.fraction: '0.1,0.2', split.seed: '1,2,3'}]", [], "hydra.sweeper.pairs[0]: .* budget.fraction has 2, split.seed has 3"),
        ("[{budget.fraction: '0.1,0.2', split.seed: '1,2'}]", ["split.seed=3,4"], "split.seed: is paired with budget.fraction in .*"),
    ],
)
def test_pairs_that_do_not_fit(pairs: str, more: list[str], line: str, sweep: list[str], tmp_path: Path) -> None:
    answer = dsel(*sweep, f"hydra.sweeper.pairs={pairs}", "arm=random", *more, outputs=tmp_path)
    assert re.match(re.escape(line).replace(r"\.\*", ".*"), answer.error)
    assert not (tmp_path / "runs").exists()


def test_numbers_go_on_and_no_folder_is_taken_twice(sweep: list[str], tmp_path: Path) -> None:
    dsel(*sweep, "arm=random", "budget.fraction=0.1,0.2", outputs=tmp_path)
    folder = tmp_path / "runs" / "demo"
    before = {path: path.read_bytes() for path in folder.rglob("result.json")}
    again = dsel(*sweep, "arm=random", "budget.fraction=0.2,0.3", outputs=tmp_path)
    assert "#2 : " in again.out
    assert "#3 : " in again.out
    assert "nothing to do" in again.out
    assert overrides(folder, "budget.fraction") == [["0.1"], ["0.2"], ["0.3"]]
    assert all(path.read_bytes() == content for path, content in before.items())
    assert len(list(folder.rglob("result.json"))) == 3


def test_two_cells_of_one_folder_are_an_error(sweep: list[str], tmp_path: Path) -> None:
    answer = dsel(*sweep, "arm=random", "overwrite=true,false", outputs=tmp_path)
    assert "two cells would share the folder arm=random" in answer.error
    assert "overwrite=" in answer.error


def test_a_failure_ends_the_sweep_only_where_asked(sweep: list[str], tmp_path: Path) -> None:
    cells = ["arm=random", "budget.fraction=2,0.1,0.2"]
    answer = dsel(*sweep, *cells, "fail_fast=true", outputs=tmp_path)
    assert answer.err.splitlines()[-1] == "error: failed: [budget.fraction=2]: budget.fraction=2: must be above 0 and at most 1"
    assert answer.out.count("left out, since another cell failed and fail_fast=true") == 2
    folder = tmp_path / "runs" / "demo"
    assert read_status(folder).counts == {"failed": 1, "waiting": 2}
    dsel(*sweep, *cells, outputs=tmp_path)
    assert read_status(folder).counts == {"done": 2, "failed": 1}


def test_only_the_cells_that_are_asked_for(sweep: list[str], tmp_path: Path) -> None:
    dsel(*sweep, "arm=random", "budget.fraction=0.1,0.2,0.3", "hydra.sweeper.only=[1]", outputs=tmp_path)
    states = [cell.state for cell in read_status(tmp_path / "runs" / "demo").cells]
    assert states == ["waiting", "done", "waiting"]


def test_ctrl_c_leaves_a_report_of_what_there_is(sweep: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dsel.scorer.domain_classifier.DomainClassifier.fit", interrupted)
    answer = dsel(*sweep, "arm=random,domain_classifier,dsir", outputs=tmp_path)
    folder = tmp_path / "runs" / "demo"
    assert (answer.code, answer.out.count("Traceback")) == (130, 0)
    assert "interrupted: the same command goes on" in answer.err
    assert (folder / "report.html").is_file()
    assert read_status(folder).counts == {"done": 1, "waiting": 2}
    assert not list(folder.rglob("running.json"))


def test_results_are_kept_in_the_store(sweep: list[str], tmp_path: Path) -> None:
    from dsel.report.many import read_many

    dsel(*sweep, "arm=random,dsir", outputs=tmp_path)
    assert read_many([tmp_path / "results"])["label"].sort().to_list() == ["dsir", "random"]


def test_slurm_without_srun_is_one_line(sweep: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    answer = dsel(*sweep, "arm=random", "hydra/launcher=submitit_slurm", outputs=tmp_path)
    assert answer.error.startswith("hydra/launcher=submitit_slurm: there is no srun on this machine; launch from a login node")


def test_a_launcher_that_is_not_installed_says_what_to_install(sweep: list[str], tmp_path: Path) -> None:
    answer = dsel(*sweep, "arm=random", "hydra/launcher=jobbib", outputs=tmp_path)
    assert "hydra/launcher=jobbib: no such option" in answer.error


def test_the_plan_says_what_was_typed(sweep: list[str], tmp_path: Path) -> None:
    dsel(*sweep, "arm=random,dsir", outputs=tmp_path)
    record = json.loads((tmp_path / "runs" / "demo" / "sweep.json").read_text())
    (launch,) = record["launches"]
    assert launch["arguments"] == [*sweep, "arm=random,dsir"]
    assert launch["outputs"] == str(tmp_path)


def test_side_by_side_cells_of_one_seed_come_apart() -> None:
    jobs = {f"{arm}{seed}": [f"seed={seed}", f"arm={arm}"] for seed in (0, 1, 2) for arm in ("a", "b")} | {"b3": ["arm=b", "seed=3"]}
    assert list(spread(jobs)) == ["a0", "a1", "a2", "b3", "b0", "b1", "b2"]
    assert spread(jobs) == jobs


def test_cells_that_all_start_at_once_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(THREADS, raising=False)
    local = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher"
    with shared_cores(local, num_cores()):
        assert os.environ[THREADS] == "1"
    with shared_cores(local, 1):
        assert os.environ[THREADS] == str(num_cores())
    with shared_cores("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", 4):
        assert THREADS not in os.environ  # joblib does so itself
    assert THREADS not in os.environ
    monkeypatch.setenv(THREADS, "3")
    with shared_cores(local, 4):
        assert os.environ[THREADS] == "3"
