"""Drop what the model finds hardest."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dsel.error import InputError
from dsel.protocol import OnlineStep, Weigh


@dataclass(frozen=True)
class LossMask:
    """Drops the share `rate` of examples with the highest mean token loss (or of tokens with the highest loss)."""

    rate: float = 0.3
    level: str = "example"
    normaliser: str = "all"

    clean_share = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise InputError(f"online.rate={self.rate}: must be at least 0 and below 1")

    def begin(self, seed: int) -> Weigh:
        """What weighs one training's steps."""
        return self._weigh

    def _weigh(self, step: OnlineStep) -> torch.Tensor:
        losses, predicted = step.losses.detach(), step.predicted
        if self.level == "example":
            losses, predicted = losses.sum(1) / predicted.sum(1).clamp_min(1), predicted.any(1)
        limit = torch.quantile(losses[predicted].float(), 1 - self.rate)
        return (losses <= limit).float()
