"""Rectangles of tokens one below the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dsel.functional.blocks import IGNORE


def stack(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Tokens (row, time) of all parts, padded to one width at their ends."""
    width = max(part.shape[1] for part in parts)
    return torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1]), value=IGNORE) for part in parts])
