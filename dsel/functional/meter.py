"""Floating-point operations of whatever goes through language models in a block of code, whoever calls them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from transformers import PreTrainedModel

from dsel.functional.flops import FORWARD, WITH_BACKWARD, num_parameters


class Meter:
    """FLOPs so far: 2 a parameter and token that goes forward, 6 where a gradient is to come back. Padding counts as tokens; attention,
    norms, and what is done with gradients do not count."""

    def __init__(self) -> None:
        self.flops = 0.0
        self._depth = 0

    def _enter(self, module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        self._depth += isinstance(module, PreTrainedModel)

    def _leave(self, module: torch.nn.Module, args: tuple[Any, ...], *rest: Any) -> None:
        if not isinstance(module, PreTrainedModel):
            return
        self._depth -= 1
        if self._depth == 0 and len(rest) == 2:  # the outermost; one that fails torch calls without what it was given by name
            self.flops += _flops_of(module, [*args, *rest[0].values()])


meters: list[Meter] = []  # those that count now


@contextmanager
def metered() -> Iterator[Meter]:
    """Counts what is done inside, in this process."""
    meter = Meter()
    meters.append(meter)
    hooks = [register_module_forward_pre_hook(meter._enter), register_module_forward_hook(meter._leave, with_kwargs=True, always_call=True)]
    try:
        yield meter
    finally:
        meters.remove(meter)
        for hook in hooks:
            hook.remove()


def add_flops(flops: float) -> None:
    """Count what was done earlier, and is used now, as if it was done here."""
    for meter in meters:
        meter.flops += flops


def _flops_of(model: PreTrainedModel, given: list[Any]) -> float:
    """Of one call, with token ids (row, position) among what it was given."""
    tokens = next((value for value in given if isinstance(value, torch.Tensor) and not value.is_floating_point()), None)
    if tokens is None:
        return 0.0
    goes_back = torch.is_grad_enabled() and any(p.requires_grad for p in model.parameters())
    return (WITH_BACKWARD if goes_back else FORWARD) * num_parameters(model) * tokens.numel()
