"""What online selection did: how much it dropped at each step, and how well that matches noise that was planted."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import torch

from dsel.functional.alignment_histogram import count_alignments
from dsel.functional.ranking import roc_auc
from dsel.training.step import Step

log = logging.getLogger("dsel")

MATCHES = ("mask_auc", "mask_precision", "mask_recall")
OFTEN, SOME = 0.1, 10  # so large a share of skipped steps, and so many of them, are worth a warning


class MaskRecord:
    """A row a step."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.skipped = 0

    def add(self, step: Step, weights: torch.Tensor, seconds: float) -> None:
        """Weights (example,) or (example, time) that were given to a step's tokens."""
        predicted, kept = step.predicted, step.kept(weights)
        row: dict[str, Any] = {
            "step": step.number,
            "masked_share": float(1 - kept.sum() / predicted.sum().clamp_min(1)),
            "seconds": seconds,
        }
        counts, dropped = (values.sum(1).cpu().numpy() for values in (predicted, predicted & ~kept))  # tokens (example,)
        known = getattr(step.batch, "noisy", None)
        noisy = None if known is None else known.cpu().numpy()
        alignment = None if step.alignment is None else step.alignment.float().cpu().numpy()
        if noisy is not None:
            row |= _matches(-dropped / np.maximum(counts, 1) if alignment is None else alignment, counts, dropped, noisy)
        if alignment is not None:
            row |= count_alignments(alignment, noisy)
        self.rows.append(row)

    def skip(self, number: int) -> None:
        """Step `number` dropped all tokens, so no step was taken. Warns where that is frequent."""
        self.skipped += 1
        if self.skipped == max(SOME, math.ceil(OFTEN * len(self.rows))):
            log.warning(
                "online: %d of %d steps dropped all their tokens, and were skipped (the last: step %d); raise batch_size, or wrap the "
                "selector with online=schedule and a later online.start", self.skipped, len(self.rows), number,
            )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        return {"rows": self.rows, "skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.rows, self.skipped = state_dict["rows"], state_dict["skipped"]

    def metrics(self) -> dict[str, float]:
        """`masked_share` over all steps; how well the mask matches the noise over the second half of them, where the model has learnt to
        tell: `mask_auc`, the mean over steps of how far noise stands below the rest in alignment, and `mask_precision`, `mask_recall`."""
        if not self.rows:
            return {}
        found = {"masked_share": float(np.mean([row["masked_share"] for row in self.rows])), "skipped_steps": float(self.skipped)}
        for name in MATCHES:
            values = [row.get(name, math.nan) for row in self.rows[len(self.rows) // 2 :]]
            known = [value for value in values if not math.isnan(value)]
            found |= {name: float(np.mean(known))} if known else {}
        return found


def _matches(
    scores: np.ndarray[Any, Any], counts: np.ndarray[Any, Any], dropped: np.ndarray[Any, Any], noisy: np.ndarray[Any, Any]
) -> dict[str, float]:
    """Of one step: of examples' scores, tokens, dropped tokens, and whether they are noise (example,). NaN where it has no meaning."""
    right, all_dropped, all_noisy = float((dropped * noisy).sum()), float(dropped.sum()), float((counts * noisy).sum())
    return {
        "mask_auc": roc_auc(-scores, noisy),
        "mask_precision": right / all_dropped if all_dropped else math.nan,
        "mask_recall": right / all_noisy if all_noisy else math.nan,
    }
