"""The baseline of online selection: drop as much at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from dsel.error import InputError
from dsel.protocol import OnlineStep, Weigh


@dataclass(frozen=True)
class RandomMask:
    """Drops each example (or token) with probability `rate`."""

    rate: float = 0.3
    level: str = "example"
    normaliser: str = "all"

    clean_share = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise InputError(f"online.rate={self.rate}: must be at least 0 and below 1")

    def begin(self, seed: int) -> Weigh:
        """What weighs one training's steps, by draws of its own."""
        return _Draws(self, torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class _Draws:
    options: RandomMask
    generator: torch.Generator

    def __call__(self, step: OnlineStep) -> torch.Tensor:
        shape = step.predicted.shape if self.options.level == "token" else step.predicted.shape[:1]
        return (torch.rand(shape, generator=self.generator) >= self.options.rate).float().to(step.predicted.device)

    def state_dict(self) -> dict[str, Any]:
        """Where the draws stand."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Draw on from there."""
        self.generator.set_state(state_dict["generator"].clone())
