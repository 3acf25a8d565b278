"""Floating-point operations of a language model by its size (arXiv 2001.08361, section 2.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

FORWARD, WITH_BACKWARD = 2.0, 6.0  # a parameter and token


def num_parameters(model: torch.nn.Module) -> int:
    """Of all its tensors, those that are shared once."""
    return sum(p.numel() for p in model.parameters())
