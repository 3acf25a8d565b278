"""How fast selection is, beside the packages that people use and beside the floor: `python benchmarks/selection.py [--quick] [--only ...]`.

Peers run in the same minutes as ours, on the same documents and cores. Needs the extra `dsel[benchmark]`. The last line is JSON.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import growth
import knn
import ngrams
import overhead
from table import Row, print_json, show


@dataclass(frozen=True)
class Size:
    """How much is measured. Peers whose rate does not hang on the number of documents get fewer."""

    documents: int = 200_000
    peer_documents: int = 20_000
    target: int = 1_000
    model: overhead.Size = field(default_factory=overhead.Size)
    vectors: knn.Size = field(default_factory=knn.Size)
    megabytes: tuple[int, ...] = (10, 100, 1_000, 10_000)


QUICK = Size(3_000, 600, 100, overhead.QUICK, knn.QUICK, (1, 2))


def measure_ngrams(size: Size) -> list[Row]:
    """DSIR and the domain classifier."""
    return ngrams.run(size.documents, size.peer_documents, size.target)


def measure_models(size: Size) -> list[Row]:
    """Scores by models, beside dense forward passes over the same tokens."""
    return [overhead.measure_scoring(size.model), overhead.measure_perplexity(size.model)]


def measure_knn(size: Size) -> list[Row]:
    """Nearest neighbours, beside faiss alone."""
    return list(knn.measure(size.vectors))


def measure_growth(size: Size, plot: Path | None = None) -> list[Row]:
    """Peak memory and time of the largest corpus, and whether time is linear."""
    points = list(growth.measure([m * 10**6 for m in size.megabytes]))
    growth.show(points)
    if plot:
        growth.draw(points, plot)
    last, before = points[-1], points[-2]
    slope = (last.seconds / before.seconds) / (last.num_bytes / before.num_bytes)
    text = f"{last.num_bytes / 1e9:.3g} GB"
    return [
        Row("peak_mb_10gb", f"peak memory, {text}", f"{last.peak_mb:,.0f} MB", "", last.peak_mb, "< 2000"),
        Row(
            "time_growth",
            f"time over bytes, the last ten times: {text}",
            f"{last.seconds:.1f} s",
            f"{before.seconds:.1f} s",
            slope,
            "<= 1.1",
        ),
    ]


MEASURES: Mapping[str, Callable[[Size], list[Row]]] = {
    "ngrams": measure_ngrams,
    "models": measure_models,
    "knn": measure_knn,
    "growth": measure_growth,
}


def main() -> None:
    """Measure, print the table, and last a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; shows that it works, not how fast")
    parser.add_argument("--only", nargs="*", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--plot", type=Path, help="where to draw time and memory against bytes (.svg, .png)")
    given = parser.parse_args()
    measures = {**MEASURES, "growth": partial(measure_growth, plot=given.plot)}
    rows: list[Row] = []
    for name in given.only:
        found = measures[name](QUICK if given.quick else Size())
        show(found)  # as soon as it is measured
        rows += found
    print_json(rows)


if __name__ == "__main__":
    main()
