"""What `executor=ray` costs over `executor=local` on one machine: `python benchmarks/on_ray.py [--quick] [--text FOLDER]`.

The same selection by both, in turns, each in a process of its own with artifacts of its own: a machine that slows down slows
both. The outputs must be equal. Needs the extra `dsel[ray]`. The last line is JSON. (Not named after Ray: this folder stands
first in `sys.path` of what runs from it.)
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.table import Table
from table import show_table

WORKERS = 2
SHARD_BYTES = 1 << 26
EXECUTORS = {
    "local": ["executor=local", f"executor.num_workers={WORKERS}"],
    "ray": ["executor=ray", f"executor.num_workers={WORKERS}"],
}
START = """
import time
started = time.perf_counter()
from dsel.executor.ray import Ray
assert list(Ray(num_workers=2).map(abs, [-1, -2], [1, 1], "start", "items")) == [1, 2]
print(time.perf_counter() - started)
"""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    megabytes: int = 1000
    rounds: int = 3
    budget: int = 10_000


QUICK = Size(megabytes=5, rounds=1, budget=100)


@dataclass(frozen=True)
class Spent:
    """Seconds of a run: the whole command, and the phases that the executor works for."""

    command: float
    score: float
    export: float


def texts_of(folder: Path | None) -> pa.ChunkedArray:
    """Texts to repeat: column `text` of the Parquet files in `folder`, or the documentation that is installed."""
    if folder is None:
        from dsel.data.installed_docs import InstalledDocs

        return _shuffled(InstalledDocs(target="networkx").read().source["text"])
    tables = [pq.read_table(path, columns=["text"]) for path in sorted(folder.glob("*.parquet"))]
    texts = pa.concat_tables(tables)["text"].drop_null()
    return _shuffled(texts.filter(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0)))


def _shuffled(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    return texts.take(pa.array(np.random.default_rng(0).permutation(len(texts))))


def repeated(texts: pa.ChunkedArray, num_bytes: int) -> Iterator[pa.Table]:
    """Tables of about a shard, `num_bytes` of text in all: the texts over and over, each with its number."""
    per_shard = max(1, int(SHARD_BYTES / (texts.nbytes / len(texts))))
    written = number = 0
    while written < num_bytes:
        rows = pa.array(range(number, number + per_shard))
        numbered = pc.binary_join_element_wise(
            texts.take(pc.subtract(rows, pc.multiply(pc.divide(rows, len(texts)), len(texts)))), pc.cast(rows, pa.string()), " "
        )
        wanted = max(1, int(len(numbered) * min(1.0, (num_bytes - written) / numbered.nbytes)))
        written += numbered.slice(0, wanted).nbytes
        number += wanted
        yield pa.table({"text": numbered.slice(0, wanted)})


def write_corpus(texts: pa.ChunkedArray, folder: Path, size: Size) -> int:
    """Shards and a target sample; the bytes of text."""
    (folder / "source").mkdir()
    num_bytes = 0
    for number, table in enumerate(repeated(texts, size.megabytes * 1_000_000)):
        pq.write_table(table, folder / "source" / f"{number:05d}.parquet", row_group_size=20_000)
        num_bytes += pc.sum(pc.binary_length(table["text"])).as_py()
    pq.write_table(pa.table({"text": texts.slice(0, 500)}), folder / "target.parquet")
    return num_bytes


def select(folder: Path, name: str, size: Size) -> Spent:
    """A selection from the beginning, by one of the executors."""
    shutil.rmtree(folder / name, ignore_errors=True)
    output = folder / f"{name}.parquet"
    given = [f"source={folder / 'source'}", f"target={folder / 'target.parquet'}", f"output={output}", "overwrite=true", "scorer=dsir"]
    given += [f"budget.units={size.budget}", f"paths.outputs={folder / name}"]
    started = time.perf_counter()
    command = [sys.executable, "-m", "dsel.run", "experiment=select", *given, *EXECUTORS[name]]
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - started
    (result,) = (folder / name).rglob("result.json")
    phases = json.loads(result.read_text(encoding="utf-8"))["cost"]["phases"]
    return Spent(seconds, phases["score"]["seconds"], phases["export"]["seconds"])


def measure_start(rounds: int) -> float:
    """Seconds from nothing to the first answers of two workers."""
    found = [subprocess.run([sys.executable, "-c", START], check=True, capture_output=True, text=True) for _ in range(rounds)]
    return statistics.median(float(done.stdout) for done in found)


def measure(texts: pa.ChunkedArray, folder: Path, size: Size) -> tuple[int, dict[str, list[Spent]]]:
    """The bytes of text, and what each executor spent on them in each round."""
    num_bytes = write_corpus(texts, folder, size)
    spent: dict[str, list[Spent]] = {name: [] for name in EXECUTORS}
    for _ in range(size.rounds):
        for name in EXECUTORS:
            spent[name].append(select(folder, name, size))
        if (folder / "local.parquet").read_bytes() != (folder / "ray.parquet").read_bytes():
            raise AssertionError("the executors did not select the same")
    return num_bytes, spent


def show(num_bytes: int, spent: dict[str, list[Spent]], start: float) -> None:
    """The table, then the figures as one line of JSON."""
    middle = {
        name: Spent(*(statistics.median(getattr(s, key) for s in runs) for key in ("command", "score", "export")))
        for name, runs in spent.items()
    }
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    title = f"{num_bytes / 1e6:,.0f} MB of text, scorer=dsir, {WORKERS} workers, medians of {len(spent['ray'])}; load of the machine {load}"
    table = Table("seconds", "local", "ray", "ray / local", title=title)
    for key, told in (("command", "whole command"), ("score", "phase score"), ("export", "phase export")):
        ours, theirs = getattr(middle["local"], key), getattr(middle["ray"], key)
        table.add_row(told, f"{ours:.1f}", f"{theirs:.1f}", f"{theirs / ours:.2f}")
    table.add_row("start of a cluster and its workers", "", f"{start:.1f}", "")
    show_table(table)
    figures = {
        "ray_vs_local": middle["ray"].command / middle["local"].command,
        "ray_start_s": start,
        **{f"{name}_mb_per_s": num_bytes / 1e6 / middle[name].score for name in middle},
    }
    print(json.dumps({key: round(value, 3) for key, value in figures.items()}))


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shows that it works, not how fast")
    parser.add_argument("--text", type=Path, help="a folder of Parquet files with a column text, to repeat")
    parser.add_argument("--folder", type=Path, help="where to put the corpus and the results; they are deleted in the end")
    options = parser.parse_args()
    size = QUICK if options.quick else Size()
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        num_bytes, spent = measure(texts_of(options.text), Path(folder), size)
    show(num_bytes, spent, measure_start(size.rounds))


if __name__ == "__main__":
    main()
