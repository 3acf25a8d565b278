"""`dsel` on the command line, for the tests: in this process where that will do, since it starts ten times faster."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest
from hydra.core.global_hydra import GlobalHydra
from made_up_corpus import write_files

ROOT = Path(__file__).parent.parent
TINY = [
    "model.num_layers=1", "model.dim=32", "model.num_heads=2", "model.context=32", "model.vocab_size=300",
    "steps.total=10", "steps.finetune=4", "trainer=debug",
]  # fmt: skip
TINY_CDS = ["scorer.num_steps=4", "scorer.every=2", "scorer.batch_size=4"]


def without_training(folder: Path) -> list[str]:
    """What `dsel` is told for a sweep that only scores and selects, over files that it finds in `folder`."""
    source, target = write_files(folder, 20, 30)
    files = ["data=files", f"source={source}", f"target={target}", "split.planted=5"]
    return [
        "experiment=demo",
        *TINY,
        *files,
        "pipeline=[score,select]",
        "phases.select.tune.every=5",
        "+hydra.callbacks.report.images=false",
    ]


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line on stderr. Errors: more lines, or another beginning, or no exit code 1."""
        assert self.code == 1, self
        assert self.err.count("\n") == 1, self
        assert self.err.startswith("error: "), self
        assert "Traceback" not in self.out, self
        return self.err.removeprefix("error: ").rstrip("\n")


def dsel(*arguments: str, outputs: Path | None = None, env: dict[str, str] | None = None) -> Answer:
    """Run `dsel` in this process, with artifacts and results under `outputs`."""
    from dsel.run import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    changed = {"HYDRA_FULL_ERROR": "0"} | ({"DSEL_OUTPUTS": str(outputs)} if outputs else {}) | (env or {})
    handlers, level = logging.root.handlers[:], logging.root.level
    GlobalHydra.instance().clear()
    with redirect_stdout(out), redirect_stderr(err), patch.dict(os.environ, changed), patch("sys.argv", ["dsel", *arguments]):
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            GlobalHydra.instance().clear()
            for handler in set(logging.root.handlers) - set(handlers):
                handler.close()  # the run's log file
            logging.root.handlers, logging.root.level = handlers, level
    return Answer(code, out.getvalue(), err.getvalue())


def start(
    *arguments: str, outputs: Path | None = None, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.Popen[str]:
    """Start `dsel` as a user would, in a process of its own."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1"} | ({"DSEL_OUTPUTS": str(outputs)} if outputs else {}) | (env or {})
    variables["PYTHONPATH"] = os.pathsep.join([str(ROOT), variables.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    command = [sys.executable, "-m", "dsel.run", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables, cwd=cwd or ROOT)


def spawn(*arguments: str, outputs: Path | None = None, env: dict[str, str] | None = None, cwd: Path | None = None) -> Answer:
    """Run `dsel` as a user would, in a process of its own."""
    process = start(*arguments, outputs=outputs, env=env, cwd=cwd)
    out, err = process.communicate(timeout=600)
    return Answer(process.returncode, out, err)


def skip_for_root() -> pytest.MarkDecorator:
    """For tests of folders that may not be written: root may write anywhere."""
    return pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
