"""What choosing costs, the part of a selection that one process does: `python benchmarks/choose.py [--quick]`. The last line is JSON.

Of a billion documents: to count the different ones, 32 million names at a time, and to keep the best million. Measured on fewer, made-up
ones, with as many passes over them as a billion take. Floor: 8 bytes a document and pass to read, 24 bytes a document to choose.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from table import Row, print_json, show

from dsel.functional.best import Best
from dsel.phase.scored import MOST_COUNTED, count_distinct

PART = 100_000  # documents of a piece
BILLION = 10**9


def measure(documents: int, budget: int) -> list[Row]:
    """Seconds for a billion documents."""
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 2**63, PART, dtype=np.uint64) for _ in range(documents // PART)]  # names, as pieces hold them
    keys = [rng.standard_normal(PART) for _ in parts]
    started = time.perf_counter()
    count_distinct(lambda: iter(parts), BILLION)
    counting = (time.perf_counter() - started) * BILLION / documents
    best = Best(budget)
    started = time.perf_counter()
    for number, (part, key) in enumerate(zip(parts, keys, strict=True)):
        best.add(key, part, np.arange(number * PART, (number + 1) * PART))
    best.result()
    choosing = (time.perf_counter() - started) * BILLION / documents
    passes = f"{-(-BILLION // MOST_COUNTED)} passes"
    return [
        Row("count_s_billion", "count the different ones", f"{counting:,.0f} s", passes, counting),
        Row("choose_s_billion", "choose the best", f"{choosing:,.0f} s", f"the best {budget:,} of {documents:,}", choosing),
    ]


def main() -> None:
    """Measure, print the table, and last a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a second instead of minutes; shows that it works, not how fast")
    rows = measure(500_000, 1_000) if parser.parse_args().quick else measure(50_000_000, 1_000_000)
    show(rows, "seconds for a billion documents, one core")
    print_json(rows)


if __name__ == "__main__":
    main()
