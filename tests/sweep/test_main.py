"""`python -m dsel.sweep`: a sweep is asked, what is missing is run again, and the table is that of an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import TINY, dsel, spawn, start, without_training
from made_up_corpus import write_files

from dsel.functional.cores import THREADS
from dsel.sweep.__main__ import main
from dsel.sweep.attendance import is_alive, read_sign
from dsel.sweep.status import read_status

EVERY = [f"phases.{name}.every=5" for name in ("pretrain", "continue", "finetune")]


def small(folder: Path) -> list[str]:
    """A sweep of six cells that train."""
    source, target = write_files(folder, 20, 60)
    files = ["data=files", f"source={source}", f"target={target}", "split.planted=5"]
    return [
        "experiment=demo", *TINY, *files, *EVERY, "arm=random,dsir,none", "seed=0,1", "+hydra.callbacks.report.images=false",
    ]  # fmt: skip


def fast(folder: Path) -> list[str]:
    """One that does not."""
    return [*without_training(folder), "seed=0"]


def table(folder: Path) -> str:
    """The sweep's table without what may differ: seconds."""
    lines = (folder / "runs" / "demo" / "table.csv").read_text().splitlines()
    kept = [at for at, name in enumerate(lines[0].split(",")) if "seconds" not in name]
    return "\n".join(",".join(line.split(",")[at] for at in kept) for line in lines)


def test_status_tells_what_failed_and_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dsel(*fast(tmp_path), "arm=random,dsir", "budget.fraction=2,0.1", outputs=tmp_path)
    folder = tmp_path / "runs" / "demo"
    assert main(["status", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "4 cells  done 2  failed 2" in out
    assert out.count("budget.fraction=2: must be above 0 and at most 1") == 1  # one cause, one line
    assert f"python -m dsel.sweep retry {folder}" in out
    assert main(["status", "--json", str(folder)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["counts"] == {"done": 2, "failed": 2}
    assert len(record["cells"]) == 4


def test_table_and_sql(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dsel(*fast(tmp_path), "arm=random,dsir", "budget.fraction=0.1,0.2", outputs=tmp_path)
    runs = str(tmp_path / "runs")
    assert main(["table", runs, "--keys", "label,budget.fraction", "--metrics", "selector_recall", "--format", "markdown"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("| label | budget.fraction | seeds | recall |")
    assert out.count("\n") == 6
    assert main(["table", runs, "--keys", "label", "--columns", "budget.fraction", "--metrics", "selector_recall", "--format", "csv"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "label,seeds,cells,10%,10% sd,20%,20% sd"
    assert main(["table", runs, "--where", "label=dsir", "--format", "latex"]) == 0
    assert r"\begin{tabular}" in capsys.readouterr().out
    assert main(["table", runs]) == 0
    capsys.readouterr()
    assert main(["sql", "SELECT label, COUNT(*) AS cells FROM results GROUP BY label ORDER BY label", runs]) == 0
    assert capsys.readouterr().out == "label,cells\ndsir,2\nrandom,2\n"


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith("error: no folder ")
    dsel(*fast(tmp_path), "arm=random", outputs=tmp_path)
    assert main(["table", str(tmp_path / "runs"), "--metrics", "selector_recal"]) == 1
    assert capsys.readouterr().err == "error: selector_recal: no cell has such a key; did you mean selector_recall?\n"
    assert main(["retry", str(tmp_path)]) == 1
    assert "holds no sweep.json" in capsys.readouterr().err


def test_retry_repeats_the_command_for_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = fast(tmp_path)
    dsel(*arguments, "arm=random,dsir", "budget.fraction=2,0.1", outputs=tmp_path)
    folder = str(tmp_path / "runs" / "demo")
    assert main(["retry", folder, "--dry-run", "--", "budget.fraction=0.3,0.1"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("budget.fraction=0.3,0.1 hydra.sweeper.only=[0,2]")
    assert "budget.fraction=2" not in line


def test_a_sweep_that_is_killed_again_and_again_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    arguments = small(tmp_path)
    assert spawn(*arguments, outputs=tmp_path / "whole").code == 0
    draw = random.Random(5)
    folder = tmp_path / "broken" / "runs" / "demo"
    for _ in range(3):
        process = start(*arguments, outputs=tmp_path / "broken")
        while not list(folder.rglob("running.json")):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(draw.uniform(0.2, 3.0))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        if read_status(folder).counts == {"done": 6}:
            break
    states = read_status(folder).counts
    assert states.keys() <= {"done", "died", "waiting"}
    command = ["python", "-m", "dsel.sweep", "retry", str(folder)]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, *command[1:]], env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert read_status(folder).counts == {"done": 6}
    assert table(tmp_path / "broken") == table(tmp_path / "whole")


@pytest.mark.slow
def test_24_cells_of_which_some_are_killed_end_as_undisturbed_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    monkeypatch.setenv(THREADS, "1")  # for `retry` as for the others: sums over more threads differ in their last digits
    cells = ["arm=random,dsir,none", "seed=0,1,2,3", "budget.fraction=0.2,0.4"]
    arguments = [word for word in small(tmp_path) if not word.startswith(("arm=", "seed="))] + cells
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert spawn(*arguments, outputs=whole).code == 0
    process = start(*arguments, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", outputs=broken)
    folder, draw, killed = broken / "runs" / "demo", random.Random(7), 0
    while killed < 3:
        time.sleep(draw.uniform(1.0, 6.0))
        assert process.poll() is None, process.communicate()
        signs = [sign for path in sorted(folder.rglob("running.json")) if (sign := read_sign(path.parent)) and is_alive(path.parent, sign)]
        if signs:
            os.kill(draw.choice(signs).pid, signal.SIGKILL)
            killed += 1
    _, err = process.communicate(timeout=500)
    assert process.returncode == 1
    assert "its process was killed" in err
    counts = read_status(folder).counts
    assert 3 <= counts["failed"] <= 6  # joblib ends both of its processes when one dies
    assert counts == {"done": 24 - counts["failed"], "failed": counts["failed"]}
    assert main(["retry", str(folder), "--", "hydra/launcher=basic"]) == 0
    assert read_status(folder).counts == {"done": 24}
    assert table(broken) == table(whole)


def test_two_sweeps_in_one_folder_at_once_do_each_cell_once(tmp_path: Path) -> None:
    arguments = [*fast(tmp_path), "arm=random,dsir,bm25"]
    both = [start(*arguments, outputs=tmp_path) for _ in range(2)]
    outs = ["".join(process.communicate(timeout=400)) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    folder = tmp_path / "runs" / "demo"
    assert read_status(folder).counts == {"done": 3}
    assert sum(out.count("nothing to do") for out in outs) == 3
    assert not list(folder.rglob("running.json"))


def test_a_stale_lock_is_no_obstacle(tmp_path: Path) -> None:
    arguments = [*fast(tmp_path), "arm=random"]
    dsel(*arguments, outputs=tmp_path)
    (path,) = (tmp_path / "runs").rglob("result.json")
    path.unlink()
    dead = {"host": "elsewhere", "pid": 1, "started": 1.0, "beat": 2.0, "phase": "score"}
    (path.parent / "running.json").write_text(json.dumps(dead))
    (path.parent / ".running.lock").touch()
    for lock in (tmp_path / "artifacts").glob(".*.lock"):
        lock.touch()
    assert [cell.state for cell in read_status(tmp_path / "runs" / "demo").cells] == ["died"]
    assert dsel(*arguments, outputs=tmp_path).code == 0
    assert read_status(tmp_path / "runs" / "demo").counts == {"done": 1}
