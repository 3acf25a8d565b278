"""When another selector chooses, and when all is trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dsel.error import InputError
from dsel.protocol import OnlineSelector, OnlineStep, Weigh


@dataclass(frozen=True)
class Schedule:
    """`selector` chooses at every `every`th step from `start` on and before `end` (null: the last)."""

    selector: OnlineSelector
    start: int = 0
    end: int | None = None
    every: int = 1

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InputError(f"online.every={self.every}: must be at least 1")

    @property
    def clean_share(self) -> float:
        """The selector's."""
        return self.selector.clean_share

    @property
    def normaliser(self) -> str:
        """The selector's."""
        return self.selector.normaliser

    def begin(self, seed: int) -> Weigh:
        """What weighs one training's steps."""
        weigh = self.selector.begin(seed)

        def when_due(step: OnlineStep) -> torch.Tensor:
            since, over = step.number - self.start, self.end is not None and step.number >= self.end
            if since < 0 or over or since % self.every:
                return torch.ones(len(step.predicted), device=step.predicted.device)
            return weigh(step)

        return when_due
