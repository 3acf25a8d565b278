"""When another selector chooses, and when all is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from dsel.error import InputError
from dsel.protocol import OnlineSelector, OnlineStep, Stateful, Weigh


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
        return _WhenDue(self, self.selector.begin(seed))


@dataclass(frozen=True)
class _WhenDue:
    options: Schedule
    weigh: Weigh

    def __call__(self, step: OnlineStep) -> torch.Tensor:
        since, over = step.number - self.options.start, self.options.end is not None and step.number >= self.options.end
        if since < 0 or over or since % self.options.every:
            return torch.ones(len(step.predicted), device=step.predicted.device)
        return self.weigh(step)

    def state_dict(self) -> dict[str, Any]:
        """The selector's, if it has one."""
        return self.weigh.state_dict() if isinstance(self.weigh, Stateful) else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The reverse."""
        if isinstance(self.weigh, Stateful):
            self.weigh.load_state_dict(state_dict)
