"""A made-up sweep of online selection on disk, as `experiment=loss_masking` would leave it, with translations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from made_up_cell import Kind

from dsel.functional.alignment_histogram import count_alignments

MASKING = Kind("loss_masking", "arm", "train", "no_mask")
STEPS = 90
REFERENCES = [f"{number} small houses stand beside the old mill at street number {number * 7}" for number in range(60)]
SPOILT = [text if at % 3 else text.replace("small", "big") for at, text in enumerate(REFERENCES)]


def write_masking(home: Path) -> Path:
    """Two methods, of which one looks at gradients: its noise moves to the left as training goes on; returns the sweep's folder."""
    for label in ("no_mask", "mask_examples"):
        for seed in (0, 1):
            frames = {"curve.parquet": pl.DataFrame({"step": [0, STEPS], "tokens": [0, 900], "target_loss": [3.0, 1.0]})}
            if label == "mask_examples":
                frames["online.parquet"] = pl.DataFrame([_row(step, seed) for step in range(STEPS)])
            frames["translations.parquet"] = _translations(SPOILT if label == "no_mask" or seed else REFERENCES)
            MASKING.write(home, label, seed, {"target_loss_trained": 1.0, "bleu_trained": 30.0 + seed}, frames)
    return home / "sweep"


def _translations(hypotheses: list[str]) -> pl.DataFrame:
    domains = ["cities" if at < 25 else "few" if at < 30 else "towns" for at in range(len(REFERENCES))]
    return pl.DataFrame({"tgt": REFERENCES, "hypothesis": hypotheses, "part": "target", "domain": domains})


def _row(step: int, seed: int) -> dict[str, object]:
    rng = np.random.default_rng([step, seed])
    noisy = np.arange(40) % 4 == 0
    alignment = rng.normal(0.5, 1, 40) - noisy * 2 * step / STEPS
    found = {
        "step": step,
        "masked_share": 0.3,
        "seconds": 0.1,
        "mask_auc": 0.5 + step / 200,
        "mask_precision": 0.5,
        "mask_recall": float("nan"),
    }
    return found | count_alignments(alignment, noisy)
