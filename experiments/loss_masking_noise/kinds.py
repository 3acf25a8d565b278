"""One table over kinds of noise: `python experiments/loss_masking_noise/kinds.py outputs/runs/loss_masking_noise*`.

A row a kind, rate and method. Losses and BLEU on the target stand beside those of the baseline as the mean and standard deviation, over
seeds, of the differences, with the number of seeds that are better. Reads the `result.json` files of each sweep.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dsel.report.aggregate import Difference, compare_with, pm
from dsel.report.results import Sweep, read_sweep

LOSS, BLEU = "metrics.target_loss_trained", "metrics.bleu_trained"
ALONE = {"metrics.masked_share": "masked", "metrics.mask_auc": "AUC of the mask", "metrics.mask_recall": "noise masked"}


def rows(sweep: Sweep) -> list[str]:
    """Markdown: of one kind, but for the baseline."""
    kind = sweep.cells[0].record["config"]["noise"]["kind"]
    losses, scores, found = compare_with(sweep, LOSS), compare_with(sweep, BLEU), []
    for (group, label, rate), cells in sweep.frame.group_by("group", "label", "x_text", maintain_order=True):
        if group in losses:
            gaps = [_tell(losses[group], losses[group].wins, 3), _tell(scores[group], scores[group].n - scores[group].wins, 1)]
            means = [f"{cells[metric].mean():.3f}" for metric in ALONE]
            found.append("| " + " | ".join([kind, rate, label, str(cells["seed"].n_unique()), *gaps, *means]) + " |")
    return found


def _tell(gap: Difference, better: int, decimals: int) -> str:
    return f"{pm(gap.mean, gap.sd, decimals, signed=True)} ({better}/{gap.n})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    titles = ["noise", "rate", "method", "seeds", "Δ target", "Δ BLEU", *ALONE.values()]
    print("| " + " | ".join(titles) + " |\n| :-- | --: | :-- |" + " --: |" * (len(titles) - 3))
    for folder in parser.parse_args().folders:
        print("\n".join(rows(read_sweep(folder))))


if __name__ == "__main__":
    main()
