"""What each part is worth: `python experiments/loss_masking_parts/factors.py outputs/runs/loss_masking_parts`.

A row a change of one part, the others as they are: differences of the target's loss, of BLEU and of the mask's AUC, paired by seed, as
mean and standard deviation. Reads the sweep's `result.json` files.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

from dsel.report.aggregate import difference, pm, values_by_seed
from dsel.report.results import Sweep, read_sweep

PARTS = {"start": ("0", "250"), "running mean": ("0.0", "0.95"), "preconditioner": ("None", "adam")}
METRICS = {"metrics.target_loss_trained": ("Δ target", 3), "metrics.bleu_trained": ("Δ BLEU", 1), "metrics.mask_auc": ("Δ AUC", 3)}


def table(sweep: Sweep) -> list[str]:
    """Markdown. A setting is labelled by its levels, in the order of PARTS."""
    lines = ["| part | from, to | the others | " + " | ".join(title for title, _ in METRICS.values()) + " |"]
    lines.append("| :-- | :-- | :-- |" + " --: |" * len(METRICS))
    for place, (part, levels) in enumerate(PARTS.items()):
        for others in product(*(levels for name, levels in PARTS.items() if name != part)):
            before, after = (", ".join([*others[:place], level, *others[place:]]) for level in levels)
            gaps = [_tell(sweep, metric, before, after) for metric in METRICS]
            lines.append(f"| {part} | {', '.join(levels)} | {', '.join(others)} | " + " | ".join(gaps) + " |")
    return lines


def _tell(sweep: Sweep, metric: str, before: str, after: str) -> str:
    values = values_by_seed(sweep.frame, metric)
    gap = difference(values.get(after, {}), values.get(before, {}))
    return "" if gap is None else pm(gap.mean, gap.sd, METRICS[metric][1], signed=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    print("\n".join(table(read_sweep(parser.parse_args().folder))))


if __name__ == "__main__":
    main()
