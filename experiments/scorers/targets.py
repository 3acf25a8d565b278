"""One table over several targets: `python experiments/scorers/targets.py outputs/runs/scorers-*`.

A row a scorer; for each target and number the mean over seeds, and in the last columns the mean over targets with the standard
deviation over seeds of that mean. Best in bold. Last, how well what is found goes with what it is worth. Reads the `result.json`
files of each sweep.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from scipy.stats import spearmanr

METRICS = {
    "selector_precision": ("precision", 1),
    "selector_auc": ("AUC", 1),
    "target_loss_before_ft": ("loss before FT", -1),
    "target_loss_after_ft": ("loss after FT", -1),
}
Found = dict[tuple[str, str, int], dict[str, float]]  # target, scorer, seed -> metrics


def read(folders: Iterable[Path]) -> Found:
    """The metrics of every cell; a sweep's folder is named `<experiment>-<target>`."""
    found: Found = {}
    for folder in folders:
        target = folder.name.partition("-")[2]
        for path in sorted(folder.rglob("result.json")):
            result = json.loads(path.read_text(encoding="utf-8"))
            found[target, result["label"], result["seed"]] = result["metrics"]
    return found


def mean(values: Sequence[float | None]) -> float:
    """NaN where a number is missing: a table must not hide a cell that did not run."""
    return float("nan") if not values or any(v is None for v in values) else statistics.fmean(v for v in values if v is not None)


def table(found: Found, metric: str) -> list[str]:
    """Markdown: a row a scorer, a column a target, and the mean over targets ± its standard deviation over seeds."""
    name, sign = METRICS[metric]
    targets = sorted({target for target, _, _ in found})
    seeds = sorted({seed for _, _, seed in found})
    scorers = [
        s for s in dict.fromkeys(label for _, label, _ in found) if any(found[k].get(metric) is not None for k in found if k[1] == s)
    ]
    cells = {(s, t): mean([found.get((t, s, seed), {}).get(metric) for seed in seeds]) for s in scorers for t in targets}
    over = {s: [mean([found.get((t, s, seed), {}).get(metric) for t in targets]) for seed in seeds] for s in scorers}
    best = {t: max((sign * cells[s, t] for s in scorers if not math.isnan(cells[s, t])), default=math.nan) for t in targets}
    order = sorted(scorers, key=lambda s: -sign * statistics.fmean(over[s]) if not math.isnan(sum(over[s])) else math.inf)
    lines = [f"| {name} | " + " | ".join(targets) + " | mean |", "| :-- |" + " --: |" * (len(targets) + 1)]
    for s in order:
        shown = [f"**{cells[s, t]:.3f}**" if sign * cells[s, t] == best[t] else f"{cells[s, t]:.3f}" for t in targets]
        spread = f" ± {statistics.stdev(over[s]):.3f}" if len(seeds) > 1 and not math.isnan(sum(over[s])) else ""
        lines.append(f"| {s} | " + " | ".join(shown) + f" | {statistics.fmean(over[s]):.3f}{spread} |")
    return lines


def agreement(found: Found) -> list[str]:
    """How far the order of scorers by what they find is that by what it is worth: Spearman's rank correlation with the precision, over the
    scorers of each target and seed in which both differ, as mean and standard deviation over these."""
    lines = ["| rank correlation with precision | mean | sd | groups |", "| :-- | --: | --: | --: |"]
    groups = sorted({(target, seed) for target, _, seed in found})
    for metric, (name, sign) in METRICS.items():
        if metric == "selector_precision":
            continue
        values = []
        for target, seed in groups:
            cells = [cell for (t, _, s), cell in found.items() if (t, s) == (target, seed) and "selector_precision" in cell]
            pairs = [(cell["selector_precision"], sign * cell[metric]) for cell in cells]
            if all(len(set(side)) > 1 for side in zip(*pairs, strict=True)):  # else there is no order to correlate
                values.append(float(spearmanr(pairs).statistic))
        told = f"{statistics.fmean(values):.2f} | {statistics.pstdev(values):.2f}" if values else "| "
        lines.append(f"| {name} | {told} | {len(values)} |")
    return lines


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    found = read(parser.parse_args().folders)
    if not found:
        raise SystemExit("no result.json in these folders; give those of sweeps, e.g. outputs/runs/scorers-*")
    for metric in METRICS:
        print("\n".join(table(found, metric)), end="\n\n")
    print("\n".join(agreement(found)))


if __name__ == "__main__":
    main()
