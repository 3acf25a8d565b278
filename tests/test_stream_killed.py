"""A selection from a stream that is killed without a chance to tidy up, anywhere, and run again: as if nothing had been."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import spawn, start
from streams import encode, sentences

NUM_FILES, PIECE_BYTES = 4, 400
SCORER = '''
"""A scorer that takes its time, and a process that stops where STALL says until it is killed."""
import importlib, os, pathlib, random, shutil, time
import numpy as np

class Slow:
    reads = ("text",)

    def fit(self, source, target, context):
        def score(batch):
            time.sleep(0.03)
            return np.array([[random.Random(text).random()] for text in batch["text"].to_pylist()], np.float32)
        return score

def stop_in(module, name, halve):
    module, whole = importlib.import_module(module), getattr(importlib.import_module(module), name)
    def stop(*arguments, **options):
        whole(*arguments, **options)
        if halve is not None:
            os.truncate(arguments[halve], os.path.getsize(arguments[halve]) // 2)
        pathlib.Path(os.environ["STALLED"]).touch()
        time.sleep(600)
    setattr(module, name, stop)

STOPS = {
    "spill": ("dsel.phase.write", "write_table", 1),
    "rows": ("dsel.phase.write", "_write", 2),
    "copy": ("shutil", "copyfile", 1),
    "record": ("dsel.phase.export", "write_atomic", None),  # it stands beside an output that is not there yet
    "result": ("dsel.result", "total_cost", None),  # both stand there, and the run does not know
}
if os.environ.get("STALL"):
    stop_in(*STOPS[os.environ["STALL"]])
'''


@dataclass(frozen=True)
class Place:
    """Where a run has its outputs; the source is shared."""

    shared: Path
    folder: Path
    workers: int = 1

    @property
    def arguments(self) -> list[str]:
        files = [f"source={self.shared / 'source'}", f"target={self.shared / 'mine.txt'}", "output=out/best.jsonl"]
        scorer = ["scorer=random", "scorer._target_=slowpkg.slow.Slow", "allow=[slowpkg.]"]
        size = [f"data.piece_bytes={PIECE_BYTES}", "budget.units=40", f"executor.num_workers={self.workers}"]
        return ["experiment=select", *files, *scorer, *size]

    def run(self) -> None:
        """To the end."""
        answer = spawn(*self.arguments, outputs=self.folder / "outputs", env={"PYTHONPATH": str(self.shared)}, cwd=self.folder)
        assert (answer.code, answer.err) == (0, "")

    def kill(self, when: Callable[[], bool], stall: str = "") -> None:
        """Run until `when`, or to where STALL says."""
        stalled = self.folder / "stalled"
        stalled.unlink(missing_ok=True)
        env = {"PYTHONPATH": str(self.shared), "STALL": stall, "STALLED": str(stalled)}
        with start(*self.arguments, outputs=self.folder / "outputs", env=env, cwd=self.folder) as process:
            while not (stalled.exists() if stall else when()):
                assert process.poll() is None, process.communicate()
                time.sleep(0.002)
            os.kill(process.pid, signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL

    def pieces(self) -> dict[str, int]:
        """Finished pieces, and when."""
        found = (self.folder / "outputs" / "artifacts").glob("piece-*/done.json")
        return {path.parent.name: path.stat().st_mtime_ns for path in found}

    def left(self) -> tuple[bytes, dict[str, Any], list[str], list[str]]:
        """Output, record without times, names beside the output and among the artifacts."""
        output = self.folder / "out" / "best.jsonl"
        record = json.loads(output.with_suffix(".json").read_text().replace(str(self.folder), "FOLDER"))
        del record["seconds"]
        names = [
            sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))
            for folder in (output.parent, self.folder / "outputs" / "artifacts")
        ]
        return output.read_bytes(), record, *names


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    shared = tmp_path_factory.mktemp("shared")
    (shared / "source").mkdir()
    (shared / "slowpkg").mkdir()
    (shared / "slowpkg" / "slow.py").write_text(SCORER)
    (shared / "mine.txt").write_bytes(encode(".txt", [f"a target {i}" for i in range(12)]))
    texts = sentences(200)
    for number, part in enumerate(np.array_split(np.arange(len(texts)), NUM_FILES)):
        (shared / "source" / f"{number}.jsonl").write_bytes(encode(".jsonl", [texts[i] for i in part], int(part[0])))
    place = Place(shared, tmp_path_factory.mktemp("undisturbed"))
    place.run()
    assert len(place.pieces()) > 30
    return place


def kill_in_scoring(place: Place, share: float, num_pieces: int) -> dict[str, int]:
    """Kill when this share of the pieces is done; the finished ones."""
    place.kill(lambda: len(place.pieces()) >= share * num_pieces)
    assert not (place.folder / "out").exists()
    return place.pieces()


def test_killed_while_it_scores(undisturbed: Place, tmp_path: Path) -> None:
    place = Place(undisturbed.shared, tmp_path)
    done = kill_in_scoring(place, 0.4, len(undisturbed.pieces()))
    place.run()
    assert done.items() <= place.pieces().items()
    assert place.left() == undisturbed.left()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_again_and_again_while_it_scores(undisturbed: Place, tmp_path: Path, workers: int) -> None:
    place, rng, done = Place(undisturbed.shared, tmp_path, workers), random.Random(workers), dict[str, int]()
    for share in sorted(rng.random() for _ in range(4)):
        now = kill_in_scoring(place, share, len(undisturbed.pieces()))
        assert done.items() <= now.items()
        done = now
    place.run()
    assert done.items() <= place.pieces().items()
    output, record, *names = place.left()
    expected, expected_record, *expected_names = undisturbed.left()
    record["config"]["executor"]["num_workers"] = 1
    assert (output, record) == (expected, expected_record)
    assert names == expected_names


@pytest.mark.slow
def test_killed_at_every_step_of_writing(undisturbed: Place, tmp_path: Path) -> None:
    place = Place(undisturbed.shared, tmp_path)
    for stall in ("spill", "rows", "copy", "record", "result"):
        place.kill(lambda: False, stall)
        found = [path.name for path in (tmp_path / "out").glob("[!.]*")] if (tmp_path / "out").exists() else []
        assert sorted(found) == {"record": ["best.json"], "result": ["best.json", "best.jsonl"]}.get(stall, [])
    place.run()
    assert place.left() == undisturbed.left()
