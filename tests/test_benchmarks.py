"""The benchmarks run, and print what they promise; how fast things are is no test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
PROMISED = {
    "overhead.py": ["startup_s", "train_vs_bare", "cds_vs_dense", "perplexity_vs_dense", "scoring_mb_1x", "scoring_mb_4x"],
    "selection.py": [
        "dsir_vs_data_selection", "dsir_mb_per_s", "floor_mb_per_s", "same_top_k", "classifier_vs_sklearn", "classifier_vs_fasttext",
        "cds_vs_dense", "knn_vs_faiss", "peak_mb_10gb", "time_growth",
    ],
    "choose.py": ["count_s_billion", "choose_s_billion"],
    "masked_step.py": [
        "sentence_vs_plain", "sentence_small_clean_vs_plain", "token_vs_plain", "loop_vs_plain", "sentence_peak_mb", "plain_peak_mb",
    ],
    "gradex.py": ["subsets_1000_s", "speedup_vs_training", "features_vs_plain", "features_vs_trak"],
    "esm.py": ["ranking_s", "ranking_vs_floor", "memory_mb", "time_vs_logme", "disk_vs_logme", "ridge_vs_sgd", "ridge_error_vs_sgd"],
    "influence.py": ["ekfac_vs_kronfluence", "low_rank_vs_kronfluence", "pearson_with_kronfluence", "two_stage_vs_single"],
    "sweep.py": ["cell_csv", "wandb_more", "again", "joblib"],
    "report.py": ["build_seconds", "open_seconds", "filter_seconds", "megabytes"],
    "sample_size.py": ["dsir_50_300", "domain_classifier_50_300", "bm25_50_3000"],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", PROMISED)
def test_the_last_line_is_json(name: str) -> None:
    if name == "selection.py":
        pytest.importorskip("data_selection", reason="needs the extra dsel[benchmark]")
        pytest.importorskip("fasttext", reason="needs the extra dsel[benchmark]")
    if name == "gradex.py":
        pytest.importorskip("trak", reason="needs the extra dsel[benchmark]")
    if name == "report.py":
        pytest.importorskip("playwright", reason="needs the extra dsel[browser], and Chromium")
    if name == "influence.py":
        pytest.importorskip("kronfluence", reason="needs kronfluence 1.0.1, installed without its dependencies")
    done = subprocess.run([sys.executable, str(FOLDER / name), "--quick"], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(PROMISED[name]) <= set(found)
    assert all(isinstance(found[key], float | int) for key in PROMISED[name])
    if name == "selection.py":
        assert found["same_top_k"] == 1
