"""Time and memory of a selection as the corpus grows, from 10 MB to 10 GB: `python benchmarks/growth.py [--plot growth.svg]`.

The shards are those of the folder given by `--source` (installed documentation where none is), repeated, with a number behind every
document; they are deleted afterwards. Floor: linear time, and memory that does not grow with the corpus but for what is chosen and
8 bytes a document to count the different ones.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import memory
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.table import Table
from table import show_table

SHARD_BYTES = 250_000_000
BUDGET = 1_000


@dataclass(frozen=True)
class Point:
    """A selection of `BUDGET` documents from `num_bytes` of text."""

    num_bytes: int
    documents: int
    seconds: float
    peak_mb: float
    phases: Mapping[str, float]  # seconds of each: what is not in them is start, configuration and the sample to fit on


def read_texts(folder: Path | None) -> pa.Array:
    """Texts to repeat."""
    if folder is not None:
        return pa.concat_arrays(
            [c for path in sorted(folder.glob("*.parquet")) for c in pq.read_table(path, columns=["text"])["text"].chunks]
        )
    from dsel.data.installed_docs import InstalledDocs

    return InstalledDocs(target="networkx", num_workers=1).read().source["text"].combine_chunks()


def write_shards(texts: pa.Array, num_bytes: int, folder: Path) -> tuple[int, int]:
    """Shards of about `num_bytes` in all; their bytes and documents."""
    folder.mkdir()
    written = documents = number = 0
    mean = texts.nbytes / len(texts)
    while written < num_bytes:
        count = max(1, int(min(SHARD_BYTES, num_bytes - written) / (mean + 9)))
        parts, made = [], 0
        while made < count:
            part = texts.slice(0, min(len(texts), count - made))
            numbers = pa.array(range(documents + made, documents + made + len(part))).cast(pa.string())
            parts.append(pc.binary_join_element_wise(part, numbers, " "))
            made += len(part)
        table = pa.table({"text": pa.chunked_array(parts)})
        pq.write_table(table, folder / f"{number:04}.parquet", row_group_size=20_000, compression="zstd")
        written, documents, number = written + sum(int(pc.sum(pc.binary_length(p)).as_py()) for p in parts), documents + made, number + 1
    return written, documents


def select(source: Path, target: Path, folder: Path, *options: str) -> tuple[float, float, dict[str, float]]:
    """Seconds, peak memory in MB and seconds by phase of `dsel experiment=select scorer=dsir` in a process of its own."""
    given = [f"source={source}", f"target={target}", f"output={folder / 'best.parquet'}", f"paths.outputs={folder / 'outputs'}"]
    command = [sys.executable, memory.__file__, "experiment=select", "scorer=dsir", f"budget.units={BUDGET}", *given, *options]
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    spent, peak = time.perf_counter() - started, float(done.stdout.splitlines()[-1])
    (result,) = (folder / "outputs" / "runs").rglob("result.json")
    phases = json.loads(result.read_text(encoding="utf-8"))["cost"]["phases"]
    return spent, peak, {name: float(phase["seconds"]) for name, phase in phases.items()}


def measure(sizes: list[int], source: Path | None = None) -> Iterator[Point]:
    """A point for each size in bytes, the smallest first."""
    texts = read_texts(source)
    for size in sizes:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            target = folder / "target.parquet"
            pq.write_table(pa.table({"text": texts.slice(0, 500)}), target)
            num_bytes, documents = write_shards(texts, size, folder / "shards")
            yield Point(num_bytes, documents, *select(folder / "shards", target, folder))


def draw(points: list[Point], path: Path) -> None:
    """Seconds and peak memory against bytes."""
    import altair as alt

    rows = [{"GB": p.num_bytes / 1e9, "seconds": p.seconds, "peak memory (GB)": p.peak_mb / 1e3} for p in points]
    data = alt.Data(values=rows)
    charts = []
    for name, scale in (("seconds", "log"), ("peak memory (GB)", "linear")):
        x = alt.X("GB:Q", scale=alt.Scale(type="log"), title="text (GB)")
        y = alt.Y(f"{name}:Q", scale=alt.Scale(type=scale, zero=scale == "linear"), title=name)
        charts.append(alt.Chart(data).mark_line(point=True).encode(x=x, y=y).properties(width=300, height=220))
    alt.hconcat(*charts).save(str(path))


def show(points: list[Point]) -> None:
    """The table."""
    names = list(points[0].phases)
    title = f"DSIR, the best {BUDGET:,} documents, file to file; seconds in all and by phase"
    table = Table("text", "documents", "peak memory", "MB/s", "seconds", *names, title=title)
    for p in points:
        megabytes = p.num_bytes / 1e6
        peak, rate = f"{p.peak_mb:,.0f} MB", f"{megabytes / p.seconds:,.0f}"
        phases = [f"{p.phases[name]:.1f}" for name in names]
        table.add_row(f"{megabytes:,.0f} MB", f"{p.documents:,}", peak, rate, f"{p.seconds:.1f}", *phases)
    show_table(table)


def main() -> None:
    """Measure, show, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--source", type=Path, help="a folder of Parquet files with `text`")
    parser.add_argument("--plot", type=Path, help="where to draw (.svg, .png)")
    options = parser.parse_args()
    points = list(measure([m * 10**6 for m in options.megabytes], options.source))
    show(points)
    if options.plot:
        draw(points, options.plot)
    largest = points[-1]
    print(json.dumps({"peak_mb": round(largest.peak_mb), "mb_per_s": round(largest.num_bytes / 1e6 / largest.seconds, 1)}))


if __name__ == "__main__":
    main()
