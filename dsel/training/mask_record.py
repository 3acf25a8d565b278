"""What online selection did: how much it dropped at each step, and how well that matches noise that was planted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from dsel.functional.ranking import roc_auc
from dsel.training.step import Step

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class MaskRecord:
    """A row a step, and the alignments of examples of which it is known whether they are noise."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.skipped = 0
        self._scores: list[np.ndarray[Any, Any]] = []
        self._noisy: list[np.ndarray[Any, Any]] = []

    def add(self, step: Step, weights: torch.Tensor, seconds: float) -> None:
        """Weights (example,) or (example, time) that were given to a step's tokens."""
        predicted = step.predicted
        tokens = predicted.sum().clamp_min(1)
        kept = predicted * ((weights > 0) if weights.ndim == 2 else (weights > 0)[:, None])
        row = {"step": step.number, "masked_share": float(1 - kept.sum() / tokens), "seconds": seconds}
        alignment = step.alignment
        if alignment is not None:
            values = torch.quantile(alignment.float(), torch.tensor(QUANTILES, device=alignment.device)).tolist()
            row |= {f"alignment_{round(100 * q)}": value for q, value in zip(QUANTILES, values, strict=True)}
        noisy = getattr(step.batch, "noisy", None)
        if noisy is not None:
            dropped = predicted.sum(1) - kept.sum(1)  # tokens (example,)
            row["mask_precision"] = float((dropped * noisy).sum() / dropped.sum()) if dropped.sum() else math.nan
            row["mask_recall"] = float((dropped * noisy).sum() / (predicted.sum(1) * noisy).sum()) if noisy.any() else math.nan
            self._noisy.append(noisy.cpu().numpy())
            self._scores.append((-dropped if alignment is None else alignment).float().cpu().numpy())
        self.rows.append(row)

    def metrics(self) -> dict[str, float]:
        """`masked_share` over all steps; `mask_auc`: how far noise stands below the rest in alignment, over the second half of the steps,
        where the model has learnt to tell."""
        if not self.rows:
            return {}
        found = {"masked_share": float(np.mean([row["masked_share"] for row in self.rows])), "skipped_steps": float(self.skipped)}
        half = len(self._scores) // 2
        if self._scores:
            scores, noisy = np.concatenate(self._scores[half:]), np.concatenate(self._noisy[half:])
            auc = roc_auc(-scores, noisy)
            found |= {} if math.isnan(auc) else {"mask_auc": auc}
        return found
