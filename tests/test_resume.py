"""Kill a run anywhere, start it again: the result is that of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from made_up_corpus import TINY, write_files

PHASES = ("pretrain", "score", "select", "continue", "before", "finetune", "after")
SMALL = [
    "split.planted=20", "arm=cds", "scorer.num_steps=10", "scorer.every=5",
    *(f"phases.{name}.{key}" for name in ("pretrain", "continue", "finetune") for key in ("batch_size=4", "every=5", "eval_tokens=500")),
]  # fmt: skip


def command(files: tuple[Path, Path], outputs: Path) -> list[str]:
    program = [sys.executable, "-m", "dsel.run", "experiment=demo", "hydra.mode=RUN", f"paths.outputs={outputs}"]
    return [*program, *TINY, *SMALL, f"source={files[0]}", f"target={files[1]}"]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}


MIDWAY = ["checkpoint_minutes=1e-6", "model.dropout=0.1", "steps.total=60", "phases.pretrain.snapshots=4", "phases.finetune.keep=best"]


def launch(files: tuple[Path, Path], outputs: Path, more: Sequence[str] = ()) -> str:
    """Run to the end; what it said."""
    done = subprocess.run(
        [*command(files, outputs), *more], env=environment(), cwd=outputs.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def kill_in(phase: str, files: tuple[Path, Path], outputs: Path) -> None:
    """Start a run, and kill it, without a chance to tidy up, once `phase` has begun."""
    artifacts = outputs / "artifacts"
    kill_when(lambda: bool([*artifacts.glob(f".{phase}-*.tmp"), *artifacts.glob(f"{phase}-*/done.json")]), files, outputs)


def kill_when(is_time: Callable[[], bool], files: tuple[Path, Path], outputs: Path, more: Sequence[str] = ()) -> None:
    """Start a run, and kill it, without a chance to tidy up, when it is time."""
    log = outputs.parent / "killed.log"
    with log.open("w") as out:
        process = subprocess.Popen([*command(files, outputs), *more], env=environment(), cwd=outputs.parent, stdout=out, stderr=out)
        while not is_time():
            assert process.poll() is None, log.read_text()
            time.sleep(0.0005)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not list(outputs.rglob("result.json"))


def result(outputs: Path) -> tuple[Path, dict[str, Any]]:
    """The one result, without what may differ: time, memory, where it stands."""
    (path,) = outputs.rglob("result.json")
    found: dict[str, Any] = json.loads(path.read_text().replace(str(outputs), "OUTPUTS"))
    for key in ("seconds", "seconds_here", "peak_memory_mb"):
        del found["cost"][key]
    for cost in found["cost"]["phases"].values():
        del cost["seconds"], cost["reused"]
    return path.relative_to(outputs), found


Undisturbed = tuple[tuple[Path, Path], Path]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    files, outputs = write_files(folder, 30, 70), folder / "outputs"
    launch(files, outputs)
    return files, outputs


def check(undisturbed: Undisturbed, outputs: Path) -> None:
    """Same result in the same place, and nothing half-written left over."""
    assert result(outputs) == result(undisturbed[1])
    names = [
        sorted(path.name for path in (o / "artifacts").iterdir() if not path.name.endswith(".lock")) for o in (outputs, undisturbed[1])
    ]
    assert names[0] == names[1]
    assert not list(outputs.rglob("*.tmp"))
    kept = [path.name for path in next(outputs.rglob("result.json")).parent.iterdir() if path.name.startswith("result")]
    assert kept == ["result.json"]


def test_a_run_killed_while_it_trains_goes_on(undisturbed: Undisturbed, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    kill_in("continue", undisturbed[0], outputs)
    assert "reused" in launch(undisturbed[0], outputs)
    check(undisturbed, outputs)


@pytest.mark.slow
def test_a_run_killed_in_every_phase_goes_on(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """One run, killed in the corpus and then once in each phase."""
    outputs = tmp_path / "outputs"
    for phase in ("corpus", *PHASES):
        kill_in(phase, undisturbed[0], outputs)
    launch(undisturbed[0], outputs)
    check(undisturbed, outputs)


@pytest.mark.slow
def test_a_run_is_the_same_twice_and_a_third_launch_does_nothing(undisturbed: Undisturbed, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    launch(undisturbed[0], outputs)
    check(undisturbed, outputs)
    before = {path: path.stat().st_mtime_ns for path in (outputs / "artifacts").rglob("*")}
    (written,) = outputs.rglob("result.json")
    told, stamp = launch(undisturbed[0], outputs), written.stat().st_mtime_ns
    assert "nothing to do" in told
    assert written.stat().st_mtime_ns == stamp
    assert {path: path.stat().st_mtime_ns for path in (outputs / "artifacts").rglob("*")} == before


def files_of(outputs: Path, phase: str) -> dict[str, bytes]:
    """What a phase has left, but for its cost."""
    (folder,) = (outputs / "artifacts").glob(f"{phase}-*")
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "done.json"}


def reached(outputs: Path, phase: str) -> int:
    """The step of the newest checkpoint on the way."""
    places = (outputs / "artifacts").glob(f".{phase}-*.partial/step-*[0-9]")
    return max((int(path.name.removeprefix("step-")) for path in places), default=0)


def test_a_training_killed_midway_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """In each phase that trains, at a step drawn at random: the same bytes."""
    rng, folder, outputs = random.Random(), tmp_path / "undisturbed", tmp_path / "outputs"
    folder.mkdir()
    files = write_files(folder, 30, 70)
    launch(files, folder / "outputs", MIDWAY)
    for phase, first, last in (("pretrain", 1, 28), ("continue", 31, 58), ("finetune", 1, 3)):
        step = rng.randint(first, last)
        kill_when(lambda phase=phase, step=step: reached(outputs, phase) >= step, files, outputs, MIDWAY)  # type: ignore[misc]
    said = launch(files, outputs, MIDWAY)
    assert "finetune   goes on at step" in said
    check((files, folder / "outputs"), outputs)
    for phase in ("pretrain", "continue", "finetune"):
        assert files_of(outputs, phase) == files_of(folder / "outputs", phase), phase
    assert any(name.startswith("snapshots/") for name in files_of(outputs, "pretrain"))
