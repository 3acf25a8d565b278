"""A made-up sweep of online selection on disk, as `experiment=loss_masking` would leave it, with translations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl

from dsel.functional.alignment_histogram import count_alignments

STEPS = 90
REFERENCES = [f"{number} small houses stand beside the old mill at street number {number * 7}" for number in range(60)]
SPOILT = [text if at % 3 else text.replace("small", "big") for at, text in enumerate(REFERENCES)]


def write_masking(home: Path) -> Path:
    """Two methods, of which one looks at gradients: its noise moves to the left as training goes on; returns the sweep's folder."""
    for label in ("no_mask", "mask_examples"):
        for seed in (0, 1):
            artifact, cell = home / "artifacts" / f"train-{label}-{seed}", home / "sweep" / f"arm={label}" / f"seed={seed}"
            artifact.mkdir(parents=True)
            cell.mkdir(parents=True)
            pl.DataFrame({"step": [0, STEPS], "tokens": [0, 900], "target_loss": [3.0, 1.0]}).write_parquet(artifact / "curve.parquet")
            if label == "mask_examples":
                pl.DataFrame([_row(step, seed) for step in range(STEPS)]).write_parquet(artifact / "online.parquet")
            record = {
                "name": "loss_masking", "label": label, "seed": seed, "fingerprint": f"{label}{seed}",
                "overrides": {"arm": label, "seed": seed}, "metrics": {"target_loss_trained": 1.0, "bleu_trained": 30.0 + seed},
                "cost": {"seconds": 1.0, "phases": {}}, "config": {}, "versions": {}, "git_commit": "0",
                "report": {"question": "?", "claim": "!", "x": None, "by": "label", "baseline": "no_mask"},
                "artifacts": {"train": f"../../../artifacts/{artifact.name}"},
            }  # fmt: skip
            hypotheses = REFERENCES if label == "mask_examples" and seed == 0 else SPOILT
            frame = {"tgt": REFERENCES, "hypothesis": hypotheses, "part": ["target"] * len(REFERENCES)}
            frame["domain"] = ["cities" if at < 25 else "few" if at < 30 else "towns" for at in range(len(REFERENCES))]
            pl.DataFrame(frame).write_parquet(artifact / "translations.parquet")
            (cell / "result.json").write_text(json.dumps(record))
    return home / "sweep"


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
