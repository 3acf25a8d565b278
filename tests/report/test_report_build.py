"""The written report: page, tables, images, command and callback."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from embedded import read_data
from made_up_sweep import NASTY, write_cell, write_sweep
from omegaconf import OmegaConf

from dsel.report.__main__ import main
from dsel.report.build import build
from dsel.report.callback import Report
from dsel.report.results import read_sweep

REQUEST = re.compile(r"""(?:src|href|action|data|poster)\s*=\s*["']?\s*(?:https?:)?//|<link|@import|url\(\s*["']?http""", re.I)


@pytest.fixture(scope="module")
def page(sweep_folder: Path) -> str:
    return build(sweep_folder, formats=(), quiet=True).read_text(encoding="utf-8")


def _without_scripts(page: str) -> str:
    return re.sub(r"<script.*?</script>", "", page, flags=re.S)


def test_page_asks_the_network_for_nothing(page: str) -> None:
    assert not REQUEST.search(_without_scripts(page))
    assert "default-src 'none'" in page
    own = page[page.rindex("<script>") :].replace("http://www.w3.org/2000/svg", "")
    for word in ("fetch(", "http", "EventSource", "XMLHttpRequest", "import("):
        assert word not in own
    assert "connect-src" not in page


def test_page_without_special_figures_leaves_vega_out(page: str) -> None:
    assert "vegaEmbed=" not in page
    assert "unsafe-eval" not in page
    assert "data-name" not in _without_scripts(page)
    assert len(page) < 400_000


def test_page_has_documents_as_data_only(page: str) -> None:
    assert "alert('x')" not in _without_scripts(page)
    assert "<script>alert" not in page
    assert "<i>x</i>" not in page
    assert "html <b>" not in page  # a domain
    assert NASTY in [text for _, _, text in read_data(page)["documents"]]


def test_page_says_what_was_asked_and_found(page: str) -> None:
    for text in (
        "How much should one select?",
        "the curves cross",
        "torch",
        "0123abc",
        "_target_",
    ):
        assert text in page
    assert "domain_classifier · 30% has the lowest target loss" in page


def test_tables_have_every_group(sweep_folder: Path, page: str) -> None:
    sweep = read_sweep(sweep_folder)
    rows = list(csv.DictReader((sweep_folder / "table.csv").read_text(encoding="utf-8").splitlines()))
    groups = [f"{row['method']} · {row['budget fraction']}" for row in rows]
    assert groups == sweep.frame["group"].unique(maintain_order=True).to_list()
    mean = sweep.frame.filter(pl.col("group") == "cds · 3%")["metrics.target_loss_after_ft"].mean()
    assert float(next(row for row in rows if row["method"] == "cds")["target after FT"]) == pytest.approx(mean)
    markdown = (sweep_folder / "table.md").read_text()
    latex = (sweep_folder / "table.tex").read_text()
    assert markdown.count("\n") == len(rows) + 2
    assert r"domain\_classifier & 30\% & 3" in latex
    assert latex.count(r"\textbf") == markdown.count("**") // 2 == 7  # one best value a column
    assert len(pl.read_parquet(sweep_folder / "results.parquet")) == len(sweep.cells)


def test_output_is_deterministic(sweep_folder: Path, page: str) -> None:
    assert build(sweep_folder, formats=(), quiet=True).read_text(encoding="utf-8") == page


def test_images(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    for arm in ("random", "cds"):
        write_cell(folder, arm, 0.3, 0)
    (folder / "figures").mkdir()
    (folder / "figures" / "curves.png").write_text("of an earlier report")
    build(folder, formats=("svg",), quiet=True)
    assert (folder / "figures" / "losses.svg").read_text().startswith("<svg")
    assert not (folder / "figures" / "curves.png").exists()
    assert not list(folder.rglob(".*"))  # temporary files


def test_images_of_costs_and_of_detection(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    for arm in ("random", "cds"):
        write_cell(folder, arm, 0.3, 0)
    for path in folder.rglob("result.json"):
        record = json.loads(path.read_text())
        record["cost"]["phases"]["pretrain"]["flops"] = 9e12
        record["cost"]["phases"]["score"]["flops"] = 3e12 * (1 + (record["label"] == "cds"))
        record["metrics"]["noise_auc"] = 0.7
        path.write_text(json.dumps(record))
    build(folder, formats=("svg",), quiet=True)
    costs = re.findall(r"TFLOPs of selection and training: ([\d.]+);", (folder / "figures" / "pareto.svg").read_text())
    assert {float(cost) for cost in costs} == {3.0, 6.0}  # pretraining is everyone's
    assert "AUC of noise" in (folder / "figures" / "detection.svg").read_text()


def test_sweep_without_x_and_without_artifacts(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    for arm in ("none", "random", "cds"):
        write_cell(folder, arm, 0.3, 0)
    for path in folder.rglob("result.json"):
        record = json.loads(path.read_text())
        for key in ("report", "artifacts", "cost", "config", "versions", "git_commit"):
            del record[key]
        path.write_text(json.dumps(record))
    page = build(folder, formats=(), quiet=True).read_text(encoding="utf-8")
    assert "One seed (0)" in page
    data = read_data(page)
    assert data["metric"] == "metrics.target_loss_after_ft"
    assert not data["curves"]
    assert not data["selected"]


def test_x_in_words(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "sweep")
    for path in folder.rglob("result.json"):
        path.write_text(path.read_text().replace('"budget.fraction": 0.3', '"budget.fraction": "all"'))
    assert "all" in build(folder, formats=(), quiet=True).read_text(encoding="utf-8")


def test_numbers_below_one_are_written_out(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    for budget in (0.03, 0.3):
        write_cell(folder, "cds", budget, 0)
    for path in folder.rglob("result.json"):
        path.write_text(path.read_text().replace("budget.fraction", "switch"))
    build(folder, formats=("svg",), quiet=True)
    figure = (folder / "figures" / "losses.svg").read_text()
    assert ">0.3</text>" in figure
    assert ">300m</text>" not in figure


def test_command(sweep_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(sweep_folder), "--no-images"]) == 0
    assert "report.html" in capsys.readouterr().out
    assert main([str(tmp_path / "absent")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_command_and_callback_start_without_drawing_libraries() -> None:
    code = "import sys, dsel.report.__main__, dsel.report.callback; print({'altair', 'polars'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_callback(sweep_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = {"outputs": str(tmp_path / "outputs")}
    Report(images=False).on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep_folder)}}, "paths": paths}))
    assert "report.html" in capsys.readouterr().out
    Report().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}, "paths": paths}))
    captured = capsys.readouterr()
    assert captured.err.startswith("report: not written: ")
    assert captured.err.count("\n") == 1
