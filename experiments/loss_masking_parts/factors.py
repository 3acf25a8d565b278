"""What each part is worth: `python experiments/loss_masking_parts/factors.py outputs/runs/loss_masking_parts`.

A row a change of one part, the others as they are: differences of the target's loss, of BLEU and of the mask's AUC, paired by seed, as
mean and standard deviation. Reads the sweep's `results.parquet`.
"""

from __future__ import annotations

import argparse
import statistics
from itertools import product
from pathlib import Path

import polars as pl

PARTS = {"start": ("0", "250"), "running mean": ("0.0", "0.95"), "preconditioner": ("None", "adam")}
METRICS = {"metrics.target_loss_trained": ("Δ target", 3), "metrics.bleu_trained": ("Δ BLEU", 1), "metrics.mask_auc": ("Δ AUC", 3)}


def table(cells: pl.DataFrame) -> list[str]:
    """Markdown."""
    lines = ["| part | from, to | the others | " + " | ".join(title for title, _ in METRICS.values()) + " |"]
    lines.append("| :-- | :-- | :-- |" + " --: |" * len(METRICS))
    for place, (part, (before, after)) in enumerate(PARTS.items()):
        for others in product(*(levels for name, levels in PARTS.items() if name != part)):
            ends = [", ".join([*others[:place], level, *others[place:]]) for level in (before, after)]
            one, other = (cells.filter(pl.col("label") == end).sort("seed") for end in ends)
            told = [_pm((other[metric] - one[metric]).to_list(), digits) for metric, (_, digits) in METRICS.items()]
            lines.append(f"| {part} | {before}, {after} | {', '.join(others)} | " + " | ".join(told) + " |")
    return lines


def _pm(values: list[float], digits: int) -> str:
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):+.{digits}f}{spread}".replace("-", "−")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    path = parser.parse_args().folder / "results.parquet"
    if not path.is_file():
        raise SystemExit(f"no {path}; run `python -m dsel.report {path.parent}` first")
    print("\n".join(table(pl.read_parquet(path))))


if __name__ == "__main__":
    main()
