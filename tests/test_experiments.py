"""Every experiment yaml runs end to end: a sweep of two cells on made-up files, a tiny model, a handful of steps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command import TINY, TINY_CDS, Answer, dsel, spawn
from made_up_corpus import write_files

from dsel import cli

EXPERIMENTS = sorted(path.stem for path in (cli.CONF / "experiment").glob("*.yaml") if path.stem != "select")
PHASES = [f"phases.{name}.every=2" for name in ("pretrain", "continue", "finetune")]
CELLS = {  # two of each sweep
    "complementarity": ["arm=none,random"],
    "demo": ["arm=random,domain_classifier"],
    "scorers": ["arm=bm25,dsir"],
    "selection_size": ["arm=random", "budget.fraction=0.1,1.0"],
    "selection_timing": ["arm=random", "switch=0.5,1.0"],
    "target_overlap": ["arm=random", "split.overlap=0.0,1.0"],
}
METRICS = {"target_loss_before_ft", "target_loss_after_ft", "pool_loss"}


def sweep(name: str, folder: Path, *more: str) -> Answer:
    """Run it small; the report's images take longer than all else."""
    source, target = write_files(folder, 30, 80)
    files = ["data=files", f"source={source}", f"target={target}", "split.planted=10"]
    return dsel(f"experiment={name}", *TINY, *files, *PHASES, "seed=0", *more, "+hydra.callbacks.report.images=false", outputs=folder)


def results(folder: Path) -> list[dict[str, object]]:
    """The cells' results."""
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("result.json"))]


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name == "demo" else pytest.mark.slow) for name in EXPERIMENTS])
def test_a_sweep_leaves_results_and_a_report(name: str, tmp_path: Path) -> None:
    answer = sweep(name, tmp_path, *CELLS[name])
    assert (answer.code, answer.err) == (0, "")
    cells = results(tmp_path)
    assert len(cells) == 2
    for cell in cells:
        assert set(cell["metrics"]) >= METRICS  # type: ignore[call-overload]
    assert (tmp_path / "runs" / name / "report.html").stat().st_size > 100_000
    assert "report: " in answer.out
    pretrained = list((tmp_path / "artifacts").glob("pretrain-*"))
    assert len(pretrained) == (2 if name == "selection_timing" else 2 if name == "target_overlap" else 1)


@pytest.mark.slow
def test_the_table_over_targets(tmp_path: Path) -> None:
    sweep("scorers", tmp_path, "name=scorers-made_up", *CELLS["scorers"])
    script = Path(__file__).parent.parent / "experiments" / "scorers" / "targets.py"
    command = [sys.executable, str(script), str(tmp_path / "runs" / "scorers-made_up")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tables = done.stdout.strip().split("\n\n")
    heads = ["precision", "AUC", "loss before FT", "loss after FT", "rank correlation with precision"]
    assert [table.split("|")[1].strip() for table in tables] == heads
    assert all(table.count("\n") == 3 for table in tables[:4])  # two scorers below the head
    assert "nan" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("arm", sorted(path.stem for path in (cli.CONF / "arm").glob("*.yaml")))
def test_every_arm(arm: str, tmp_path: Path) -> None:
    small = {"cds": TINY_CDS, "domain_encoder": ["scorer.num_steps=2"]}
    small["complementary_gradient"] = [*[f"scorer.{o}" for o in ("num_buckets=4", "sample=50")], "scorer.scorer.num_steps=2"]
    answer = sweep("demo", tmp_path, "hydra.mode=RUN", f"arm={arm}", *small.get(arm, []))
    assert (answer.code, answer.err) == (0, "")
    (cell,) = results(tmp_path)
    assert cell["label"] == arm


@pytest.mark.slow
def test_on_installed_documentation(tmp_path: Path) -> None:
    docs = ["data=installed_docs", "data.target=filelock", "data.packages=[hydra,jinja2]", "data.num_workers=1", "data.min_characters=40"]
    small = [*TINY_CDS, *PHASES, "split.planted=10", "+hydra.callbacks.report.images=false"]
    answer = dsel("experiment=demo", *TINY, *docs, *small, "arm=cds,none", "seed=0", outputs=tmp_path)
    assert (answer.code, answer.err) == (0, "")
    assert sorted(cell["label"] for cell in results(tmp_path)) == ["cds", "none"]  # type: ignore[type-var]
    assert (tmp_path / "runs" / "demo" / "report.html").is_file()


@pytest.mark.slow
def test_a_sweep_as_a_user_runs_it(tmp_path: Path) -> None:
    source, target = write_files(tmp_path, 30, 80)
    files = ["data=files", f"source={source}", f"target={target}", "split.planted=10"]
    answer = spawn("experiment=demo", *TINY, *files, *PHASES, "seed=0", "arm=random,none", outputs=tmp_path)
    assert (answer.code, answer.err) == (0, "")
    folder = tmp_path / "runs" / "demo"
    assert {"report.html", "table.csv", "table.md", "table.tex", "results.parquet"} <= {path.name for path in folder.iterdir()}
    assert list((folder / "figures").glob("*.png"))
