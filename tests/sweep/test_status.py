"""Who is at a cell, and how a sweep stands."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dsel.error import InputError
from dsel.progress import progress
from dsel.sweep import attendance
from dsel.sweep.attendance import RUNNING, Sign, attend, is_alive, read_sign
from dsel.sweep.cells import Cells
from dsel.sweep.plan import Launch, add_launch
from dsel.sweep.status import CellStatus, Status, read_status

HOLD = (
    "import sys, time; from pathlib import Path; from dsel.sweep.attendance import attend\nwith attend(Path(sys.argv[1])): time.sleep(60)"
)


def hold(folder: Path, before: str = "") -> subprocess.Popen[bytes]:
    """Another process at the cell."""
    process = subprocess.Popen(
        [sys.executable, "-c", before + HOLD, str(folder)], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    while read_sign(folder) is None:
        assert process.poll() is None
        time.sleep(0.02)
    return process


def result(folder: Path, seconds: float) -> None:
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps({"cost": {"seconds_here": seconds}}))


def test_a_process_says_that_it_is_at_a_cell_and_tidies_up(tmp_path: Path) -> None:
    with attend(tmp_path), progress("train", 10, "steps") as bar:
        bar.advance(4)
        sign = read_sign(tmp_path)
        assert sign is not None
        assert (sign.pid, sign.host) == (os.getpid(), socket.gethostname())
        assert is_alive(tmp_path, sign)
    assert not (tmp_path / RUNNING).exists()


def test_a_sign_says_how_far_the_phase_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attendance, "BEAT_SECONDS", 0.01)
    with progress("train", 10, "steps") as bar:
        bar.advance(4)
        with attend(tmp_path):
            until = time.time() + 10
            while ((sign := read_sign(tmp_path)) is None or sign.share != 0.4) and time.time() < until:
                time.sleep(0.01)
            assert sign is not None
            assert sign.share == 0.4


def test_two_processes_are_at_a_cell_one_after_the_other(tmp_path: Path) -> None:
    process = hold(tmp_path)
    try:
        sign = read_sign(tmp_path)
        assert sign is not None
        assert is_alive(tmp_path, sign)
        assert read_status_of(tmp_path) == "running"
    finally:
        process.kill()
        process.wait()
    assert not is_alive(tmp_path, sign)  # a killed process holds no lock
    with attend(tmp_path):
        pass


def read_status_of(folder: Path) -> str:
    add_launch(folder.parent, [(folder.name, [])], Launch([], ".", "", "", 0, 0.0))
    return read_status(folder.parent).cells[0].state


def test_a_process_on_another_host_is_dead_once_it_is_silent(tmp_path: Path) -> None:
    now = time.time()
    assert is_alive(tmp_path, Sign("elsewhere", 1, now, now))
    assert not is_alive(tmp_path, Sign("elsewhere", 1, now - 999, now - attendance.SILENT_SECONDS - 1))


def test_every_state_of_a_cell(tmp_path: Path) -> None:
    names = ["done", "failed", "pruned", "died", "waiting"]
    add_launch(tmp_path, [(name, [f"arm={name}"]) for name in names], Launch([], ".", "", "", 0, 0.0))
    result(tmp_path / "done", 12)
    for name in ("failed", "pruned", "died"):
        (tmp_path / name).mkdir()
    (tmp_path / "failed" / "failed.json").write_text('{"error": "data.target=x: not installed"}')
    (tmp_path / "pruned" / "failed.json").write_text('{"error": "pruned at step 3", "pruned": true}')
    (tmp_path / "died" / RUNNING).write_text(
        json.dumps({"host": socket.gethostname(), "pid": 1, "started": 1, "beat": 31, "phase": "score"})
    )
    result(tmp_path / "by_hand", 8)
    status = read_status(tmp_path)
    assert [cell.state for cell in status.cells] == [*names, "done"]
    assert status.counts == {"done": 2, "failed": 1, "died": 1, "pruned": 1, "waiting": 1}
    assert status.cells[1].cause == "data.target=x: not installed"
    assert status.cells[3].cause.startswith("killed in score, process 1")
    assert status.cells[3].seconds == 30
    assert status.cells[5].number is None
    assert status.seconds_left == 10  # one that waits, and those that are done took 10 on average


def test_the_time_left_counts_what_goes_on_side_by_side() -> None:
    done = [CellStatus(0, "a", [], "done", seconds=10.0)]
    running = [CellStatus(n, "b", [], "running", seconds=4.0) for n in (1, 2)]
    waiting = [CellStatus(n, "c", [], "waiting") for n in (3, 4)]
    assert Status(Path(), [*done, *running, *waiting]).seconds_left == (6 + 6 + 10 + 10) / 2
    assert Status(Path(), [*running, *waiting]).seconds_left is None
    assert Status(Path(), done).seconds_left is None


def test_a_folder_without_a_sweep(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder .*; give the folder of a sweep"):
        read_status(tmp_path / "none")
    with pytest.raises(InputError, match=r"holds neither result.json nor the plan of a sweep"):
        read_status(tmp_path)


def test_what_was_killed_is_written_down_and_the_rest_goes_on(tmp_path: Path) -> None:
    started = time.time() - 1
    result(tmp_path / "done", 1)
    process = hold(tmp_path / "killed")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    left = Cells(tmp_path, started).after_crash(["done", "killed", "new"], RuntimeError("a worker is gone"))
    assert left == ["new"]
    assert "its process was killed" in json.loads((tmp_path / "killed" / "failed.json").read_text())["error"]
    assert not (tmp_path / "killed" / RUNNING).exists()


def test_a_failure_ends_all_where_asked(tmp_path: Path) -> None:
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / RUNNING).write_text("{}")
    assert Cells(tmp_path, 0.0, fail_fast=True).after_crash(["killed", "new"], RuntimeError()) == []


def test_stopping_asks_the_others_to_end(tmp_path: Path) -> None:
    process = hold(tmp_path / "cell")
    Cells(tmp_path, 0.0).stop()
    assert process.wait(10) != 0
    assert not (tmp_path / "cell" / RUNNING).exists()  # it tidied up, as after Ctrl-C


def test_what_does_not_hear_a_ctrl_c_is_ended_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsel.sweep.cells.STOP_SECONDS", 0.5)
    process = hold(tmp_path / "cell", "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n")
    Cells(tmp_path, 0.0).stop()
    assert process.wait(10) == -signal.SIGTERM
