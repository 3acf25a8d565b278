"""Cells by each launcher: the same results as one after the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command import TINY, spawn
from made_up_corpus import write_files

from dsel.sweep.status import read_status

LAUNCHERS = {
    "basic": ([], "hydra"),
    "joblib": (["hydra.launcher.n_jobs=2"], "joblib"),
    "submitit_local": (["hydra.launcher.timeout_min=10"], "submitit"),
    "ray": ([], "ray"),
}


def results(folder: Path) -> dict[str, Any]:
    """Metrics of every cell by its folder."""
    runs = folder / "runs" / "demo"
    return {str(path.parent.relative_to(runs)): json.loads(path.read_text())["metrics"] for path in runs.rglob("result.json")}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_gives_what_cells_in_turn_give(name: str, tmp_path: Path) -> None:
    more, package = LAUNCHERS[name]
    pytest.importorskip(package)
    source, target = write_files(tmp_path, 20, 60)
    files = ["data=files", f"source={source}", f"target={target}", "split.planted=5"]
    arguments = ["experiment=demo", *TINY, *files, "arm=random,dsir", "seed=0,1", "+hydra.callbacks.report.images=false"]
    assert spawn(*arguments, outputs=tmp_path / "turns").code == 0
    answer = spawn(*arguments, f"hydra/launcher={name}", *more, outputs=tmp_path / name)
    assert answer.code == 0, answer.err
    assert results(tmp_path / name) == results(tmp_path / "turns")
    assert len(results(tmp_path / name)) == 4
    assert read_status(tmp_path / name / "runs" / "demo").counts == {"done": 4}
    assert len(list((tmp_path / name / "artifacts").glob("corpus-*/done.json"))) == 1
    assert (tmp_path / name / "runs" / "demo" / "report.html").is_file()
    if name == "submitit_local":
        assert "what the jobs print is in .submitit/" in answer.out
        assert list((tmp_path / name / "runs" / "demo" / ".submitit").iterdir())
