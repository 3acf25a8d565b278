"""One table over kinds of noise: `python experiments/loss_masking_noise/kinds.py outputs/runs/loss_masking_noise-*`.

A row a kind, rate and method. Losses and BLEU on the target stand beside those of `no_mask` as the mean and standard deviation, over
seeds, of the differences, with the number of seeds that are better. Reads the `results.parquet` of each sweep's report.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable
from pathlib import Path

import polars as pl

BASELINE = "no_mask"
METRICS = {"metrics.target_loss_trained": ("Δ target", 3, -1), "metrics.bleu_trained": ("Δ BLEU", 1, 1)}
ALONE = {"metrics.masked_share": "masked", "metrics.mask_auc": "AUC of the mask", "metrics.mask_recall": "noise masked"}
KEYS = ["kind", "rate", "label"]


def read(folders: Iterable[Path]) -> pl.DataFrame:
    """A row a cell."""
    paths = [folder / "results.parquet" for folder in folders]
    if missing := [path for path in paths if not path.is_file()]:
        raise SystemExit(f"no {missing[0]}; run `python -m dsel.report {missing[0].parent}` first")
    table = pl.concat([pl.read_parquet(path) for path in paths], how="diagonal_relaxed")
    return table.rename({"overrides.noise.kind": "kind", "overrides.noise.rate": "rate"})


def differences(cells: pl.DataFrame, metric: str) -> pl.DataFrame:
    """Of each cell, from the one without a mask of its kind, rate and seed."""
    other = cells.filter(pl.col("label") == BASELINE).select("kind", "rate", "seed", pl.col(metric).alias("other"))
    return cells.filter(pl.col("label") != BASELINE).join(other, on=["kind", "rate", "seed"]).with_columns(pl.col(metric) - pl.col("other"))


def pm(values: list[float], digits: int) -> str:
    """Mean ± standard deviation."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):+.{digits}f}{spread}".replace("-", "−")


def table(cells: pl.DataFrame) -> list[str]:
    """Markdown."""
    titles = ["noise", "rate", "method", "seeds", *[title for title, _, _ in METRICS.values()], *ALONE.values()]
    lines = ["| " + " | ".join(titles) + " |", "| :-- | --: | :-- |" + " --: |" * (len(titles) - 3)]
    found = {metric: differences(cells, metric) for metric in METRICS}
    for (kind, rate, label), group in cells.filter(pl.col("label") != BASELINE).sort(KEYS).group_by(KEYS, maintain_order=True):
        told = [str(kind), str(rate), str(label), str(group["seed"].n_unique())]
        for metric, (_, digits, sign) in METRICS.items():
            values = found[metric].filter(kind=kind, rate=rate, label=label)[metric].to_list()
            told.append(f"{pm(values, digits)} ({sum(sign * value > 0 for value in values)}/{len(values)})" if values else "")
        told += [f"{group[metric].mean():.3f}" if group[metric].null_count() < len(group) else "" for metric in ALONE]
        lines.append("| " + " | ".join(told) + " |")
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    print("\n".join(table(read(parser.parse_args().folders))))


if __name__ == "__main__":
    main()
