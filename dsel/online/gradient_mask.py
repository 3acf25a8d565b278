"""Gradient-guided loss masking: leave out of a step what points away from where clean data point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from dsel.error import InputError
from dsel.protocol import OnlineStep, Weigh

LEVELS, WEIGHTS = ("example", "token"), ("mask", "relu")


@dataclass(frozen=True)
class GradientMask:
    """a = <gradient of an example's (or a token's) loss, gradient of a clean batch's>; what has a <= 0 is dropped (arXiv 2102.13549).

    `weight: relu` weighs by a instead, scaled to mean 1; with `similarity: cosine` by a over the norm of the example's gradient, so that
    no example counts for being long or hard. A mask is the same by either. The clean batch, of the target sample, has `clean_share` times
    the tokens of the training batch; with `momentum` its gradient is a running mean. `precondition: adam` aligns with the step that Adam
    would take along the clean gradient (as arXiv 2402.04333, eq. 2, does with an example's), so that no parameter counts for its gradients
    being large. `parameters`: a regular expression for the names of those that count. `normaliser`: "all" divides the loss by the batch's
    tokens, "kept" by those that are kept, which raises the effective learning rate. `method: auto` times the exact ones at the first step
    and takes the cheapest.
    """

    level: str = "example"
    weight: str = "mask"
    similarity: str = "dot"
    method: str = "auto"
    normaliser: str = "all"
    clean_share: float = 0.25
    momentum: float = 0.0
    precondition: str | None = None
    parameters: str | None = None

    def __post_init__(self) -> None:
        for key, known in (
            ("level", LEVELS), ("weight", WEIGHTS), ("similarity", ("dot", "cosine")), ("normaliser", ("all", "kept")),
        ):  # fmt: skip
            if getattr(self, key) not in known:
                raise InputError(f"online.{key}={getattr(self, key)}: must be one of {', '.join(known)}")
        if self.precondition not in (None, "adam"):
            raise InputError(f"online.precondition={self.precondition}: must be null or adam")
        if self.similarity == "cosine" and (self.level == "token" or self.method not in ("auto", "ghost")):
            raise InputError("online.similarity=cosine: needs each example's norm: set online.level=example online.method=ghost")
        if not 0 < self.clean_share <= 4:
            raise InputError(f"online.clean_share={self.clean_share}: must be above 0 and at most 4")
        if not 0 <= self.momentum < 1:
            raise InputError(f"online.momentum={self.momentum}: must be at least 0 and below 1")

    @property
    def is_turned(self) -> bool:
        """Whether the direction is another than the clean gradient."""
        return bool(self.momentum or self.precondition)

    def begin(self, seed: int) -> Weigh:
        """What weighs one training's steps."""
        return _Weigh(self)


@dataclass
class _Weigh:
    options: GradientMask
    method: str = ""
    only: frozenset[str] | None = None
    mean: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __call__(self, step: OnlineStep) -> torch.Tensor:
        options = self.options
        if not self.method:
            self._begin(step)
        turn = partial(self._turn, step) if options.is_turned else None
        alignment = step.align(self.method, options.level == "token", turn, self.only)
        if options.similarity == "cosine":
            alignment = alignment / step.norms(self.only).clamp_min(1e-30)
        if alignment.ndim == 2:
            alignment = alignment.masked_fill(~step.predicted, 0.0)
        if options.weight == "mask":
            return (alignment > 0).to(alignment.dtype)
        positive = alignment.clamp_min(0)
        return positive * (alignment.numel() / positive.sum().clamp_min(1e-30))

    def state_dict(self) -> dict[str, Any]:
        """The method that was found the cheapest too: at another time it may be another."""
        return {"method": self.method, "only": self.only, "mean": dict(self.mean)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.method, self.only, self.mean = state_dict["method"], state_dict["only"], state_dict["mean"]

    def _begin(self, step: OnlineStep) -> None:
        options = self.options
        self.only = step.names(options.parameters) if options.parameters else None
        self.method = "ghost" if options.similarity == "cosine" else options.method
        if self.method == "auto":
            turn = step.precondition if options.is_turned else None  # what takes time in it, without the memory of earlier steps
            self.method = step.cheapest(options.level == "token", turn, self.only)

    def _turn(self, step: OnlineStep, clean: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        keep = self.options.momentum if self.mean else 0.0
        mean = {name: self.mean.get(name, value).to(value.device) for name, value in clean.items()}  # what was on disk is on the CPU
        self.mean = {name: keep * mean[name] + (1 - keep) * value for name, value in clean.items()}
        return step.precondition(self.mean) if self.options.precondition else self.mean
