"""`trainer=ddp` from the command line: a sweep has its cells, once each, and a killed run leaves no process behind."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from command import spawn, start
from made_up_corpus import TINY, write_files

DDP = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "phases.pretrain.batch_size=4", "phases.pretrain.eval_tokens=500"]


def arguments(folder: Path) -> list[str]:
    source, target = write_files(folder, 30, 70)
    tiny = [override for override in TINY if not override.startswith("trainer=")]
    return ["experiment=demo", "arm=cds", "pipeline=[pretrain]", f"source={source}", f"target={target}", *tiny, *DDP]


def test_a_sweep_has_its_cells_once_each(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    answer = spawn("--multirun", *arguments(tmp_path), "seed=0,1", "phases.pretrain.until=1", outputs=outputs, cwd=tmp_path)
    assert answer.code == 0, answer
    results = [json.loads(path.read_text()) for path in sorted(outputs.rglob("result.json"))]
    assert [result["seed"] for result in results] == [0, 1]
    assert [result["cost"]["phases"]["pretrain"]["optimizer_steps"] for result in results] == [20, 20]
    assert len(list(outputs.rglob(".hydra"))) == 2
    assert len(list((outputs / "artifacts").glob("pretrain-*"))) == 2
    assert answer.out.count("result: ") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs", "source.jsonl", "target.jsonl"]  # nothing is left here


def others_of(process: int) -> list[int]:
    """Its children, and theirs, that train."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent, line = int(path.read_text().rpartition(")")[2].split()[1]), (path.parent / "cmdline").read_text()
        except (OSError, ValueError):
            continue
        if parent == process and "spawn_main" in line:
            found.append(int(path.parent.name))
    return found


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_run_leaves_no_process_and_goes_on(tmp_path: Path) -> None:
    """Killed once it has a checkpoint, which comes every tenth step."""
    outputs, line = tmp_path / "outputs", [*arguments(tmp_path), "hydra.mode=RUN", "phases.pretrain.until=1", "checkpoint_minutes=1e-6"]
    with start(*line, outputs=outputs, cwd=tmp_path) as process:
        while not list((outputs / "artifacts").glob(".pretrain-*.partial/step-*[0-9]")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.001)
        others = others_of(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert others
    limit = time.monotonic() + 60
    while any(is_alive(other) for other in others):
        assert time.monotonic() < limit, "a process is left"
        time.sleep(0.05)
    answer = spawn(*line, outputs=outputs, cwd=tmp_path)
    assert answer.code == 0, answer
    assert "pretrain   goes on at step 10 of 20" in answer.out
