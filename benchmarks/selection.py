"""How fast selection is, beside the packages that people use and beside the floor: `python benchmarks/selection.py [--quick]`.

Peers run in the same process time, in turns with ours: a machine that slows down slows both. Needs the extra `dsel[benchmark]`.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from dsel.data.installed_docs import InstalledDocs

WORDS = 100  # of a document
TARGET = "networkx"
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    documents: int = 200_000
    peer_documents: int = 20_000  # what the slow ones are given: their rate does not hang on it
    target: int = 1_000
    budget: int = 10_000


QUICK = Size(documents=3_000, peer_documents=600, target=100, budget=100)


@dataclass(frozen=True)
class Row:
    """A line of the table: what was measured, what it stands beside, and their ratio against the target."""

    key: str
    name: str
    ours: str
    beside: str
    value: float
    target: str


@contextmanager
def timed() -> Iterator[list[float]]:
    """The seconds of the block, in the list that it gives."""
    seconds: list[float] = []
    start = time.perf_counter()
    yield seconds
    seconds.append(time.perf_counter() - start)


@cache
def corpus(size: Size) -> tuple[list[str], list[str], np.ndarray[Any, np.dtype[np.bool_]]]:
    """English documents of 100 words from installed documentation, those of the target, and which source documents are its like."""
    documents = InstalledDocs(target=TARGET, num_workers=CORES).read()
    rng = np.random.default_rng(0)

    def cut(texts: list[str], number: int, offset: int) -> list[str]:
        words = " ".join(texts).split()
        starts = np.arange(offset, max(len(words) - WORDS, 1), WORDS)
        return [" ".join(words[start : start + WORDS]) for start in rng.permutation(starts)[:number].tolist()]

    target = cut(documents.target["text"].to_pylist(), 2 * size.target, 0)
    hidden, target = target[: len(target) // 2], target[len(target) // 2 :]
    source: list[str] = list(hidden)
    offset = 0
    while len(source) < size.documents:  # the same words, cut elsewhere: other documents of the same kind
        source += cut(documents.source["text"].to_pylist(), size.documents - len(source), offset)
        offset += 37
    order = rng.permutation(len(source))
    return [source[i] for i in order], target, (np.arange(len(source)) < len(hidden))[order]


def write(texts: list[str], path: Path) -> int:
    """The texts as Parquet, a hundred thousand a row group; their bytes."""
    pq.write_table(pa.table({"text": texts}), path, row_group_size=20_000)
    return sum(len(text.encode()) for text in texts)


def select(folder: Path, name: str, *options: str) -> tuple[float, Path]:
    """Seconds of `dsel experiment=select` in a new process, start and writing included, and its output."""
    output = folder / f"{name}.parquet"
    given = [
        f"source={folder / 'source.parquet'}",
        f"target={folder / 'target.parquet'}",
        f"output={output}",
        f"executor.num_workers={CORES}",
    ]
    with timed() as seconds:
        command = [sys.executable, "-m", "dsel.run", "experiment=select", *given, *options, f"paths.outputs={folder / name}"]
        subprocess.run(command, check=True, capture_output=True)
    return seconds[0], output


def measure_dsir(size: Size, folder: Path) -> Iterator[Row]:
    """Fit, score and resample: ours from file to file, theirs from file to scores and indices."""
    from data_selection import HashedNgramDSIR

    source, target, _ = corpus(size)
    num_bytes = write(source, folder / "source.parquet")
    write(target, folder / "target.parquet")
    select(folder, "warm", "scorer=dsir", "selector.keep=sample", "budget.units=10")  # compiles
    seconds, _ = select(folder, "dsir", "scorer=dsir", "selector.keep=sample", f"budget.units={size.budget}")
    rate = len(source) / seconds
    peer_source, peer_target = folder / "peer.jsonl", folder / "peer_target.jsonl"
    for path, texts in ((peer_source, source[: size.peer_documents]), (peer_target, target)):
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    with timed() as theirs:
        peer = HashedNgramDSIR([str(peer_source)], [str(peer_target)], cache_dir=str(folder / "peer"), num_proc=CORES)
        peer.fit_importance_estimator(num_tokens_to_fit="auto")
        peer.compute_importance_weights()
        peer.resample(str(folder / "resampled"), num_to_sample=size.peer_documents // 10, cache_dir=str(folder / "cache"))
    peer_rate = size.peer_documents / theirs[0]
    yield Row(
        "dsir_vs_data_selection", "DSIR, file to file", f"{rate:,.0f} docs/s", f"data-selection {peer_rate:,.0f}", rate / peer_rate, ">= 40"
    )
    lines = folder / "lines.txt"
    lines.write_text("\n".join(source), encoding="utf-8")
    with timed() as floor:
        subprocess.run(["wc", "-w", str(lines)], check=True, capture_output=True)
    yield Row("dsir_mb_per_s", "DSIR", f"{num_bytes / seconds / 1e6:,.0f} MB/s", "wc -w, one core", num_bytes / seconds / 1e6, "")
    yield Row("floor_mb_per_s", "wc -w", f"{num_bytes / floor[0] / 1e6:,.0f} MB/s", "", num_bytes / floor[0] / 1e6, "")


def measure_classifier(size: Size, folder: Path) -> Iterator[Row]:
    """Predictions a second and AUC, all fitted on the same documents."""
    raise NotImplementedError


MEASURES: Mapping[str, Callable[[Size, Path], Iterator[Row]]] = {"dsir": measure_dsir}


def main() -> None:
    """Measure, print the table, and last a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument("--only", nargs="*", choices=MEASURES, default=list(MEASURES))
    given = parser.parse_args()
    rows = []
    for name in given.only:
        with tempfile.TemporaryDirectory() as folder:
            rows += MEASURES[name](QUICK if given.quick else Size(), Path(folder))
    table = Table("what", "ours", "beside", "ratio", "target")
    for row in rows:
        table.add_row(row.name, row.ours, row.beside, f"{row.value:.4g}", row.target)
    Console().print(table)
    print(json.dumps({row.key: round(row.value, 4) for row in rows}))


if __name__ == "__main__":
    main()

__all__ = ["re", "roc_auc_score"]
