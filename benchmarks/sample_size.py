"""How many documents of the source a score needs to be fitted on: `python benchmarks/sample_size.py [--quick]`. The last line is JSON.

Precision among the best k when k documents of the target's kind are hidden in the source, for `data.sample` from 10,000 documents to all.
A larger sample costs time to read, to write and to fit; this shows what it buys.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from ngrams import make_corpus, select, write
from rich.table import Table
from table import show_table

SCORERS = ("dsir", "domain_classifier", "bm25")
SEEDS = 3  # of the sample


def precisions(hidden: npt.NDArray[np.bool_], source: Path, target: Path, scorer: str, sample: int) -> list[float]:
    """Of each seed: which part of as many documents as are `hidden` (document,), chosen after fitting on `sample`, is hidden ones."""
    k, found = int(hidden.sum()), []
    for seed in range(SEEDS):
        given = (f"scorer={scorer}", f"data.sample={sample}", f"data.seed={seed}", f"budget.units={k}")
        parts = ("split.target=1", "split.finetune=1", "split.validation=0")
        _, _, output = select(source.parent, f"{target.stem}-{scorer}-{sample}-{seed}", source, target, *given, *parts)
        found.append(float(hidden[pq.read_table(output)["dsel_row"].to_numpy()].mean()))
    return found


def main() -> None:
    """Measure, print the table, and last a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; shows that it works, not how it depends")
    quick = parser.parse_args().quick
    corpus = make_corpus(3_000, 100) if quick else make_corpus(200_000, 1_000)
    samples = (300, 3_000) if quick else (10_000, 20_000, 50_000, 200_000)
    targets = (50,) if quick else (100, 1_000)
    table = Table("target documents", "scorer", *(f"data.sample={n:,}" for n in samples), title="precision, mean ± sd")
    found = {}
    with tempfile.TemporaryDirectory() as place:
        source = write(corpus.source, Path(place) / "source.parquet")
        for num_target in targets:
            target = write(corpus.target[:num_target], Path(place) / f"{num_target}.parquet")
            for scorer in SCORERS:
                each = [precisions(corpus.hidden, source, target, scorer, sample) for sample in samples]
                told = [f"{statistics.fmean(seeds):.3f} ± {statistics.pstdev(seeds):.3f}" for seeds in each]
                table.add_row(f"{num_target:,}", scorer, *told)
                for sample, seeds in zip(samples, each, strict=True):
                    found[f"{scorer}_{num_target}_{sample}"] = round(statistics.fmean(seeds), 4)
    show_table(table)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
