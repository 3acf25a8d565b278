"""What a model expected in the place of each token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from dsel.functional.token_losses import token_losses

if TYPE_CHECKING:
    from dsel.protocol import Objective

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def expected_tokens(model: torch.nn.Module, objective: Objective, table: pa.Table, context: int) -> list[tuple[Ints, Floats, Ints]]:
    """For each unit its predicted tokens (token,), their losses, and the most likely tokens in their places."""
    found = []
    device = next(model.parameters()).device
    with torch.inference_mode():
        for row in range(table.num_rows):  # few: queries that somebody reads
            parts = []
            for _, batch in objective.rows(table.slice(row, 1), context, context):
                here = batch.to(device)
                outputs, labels = objective.outputs(model, here)
                real = objective.predicted(here)
                losses = token_losses(outputs, labels, 0.0)[real]
                parts.append((labels[real].cpu().numpy(), losses.double().cpu().numpy(), outputs.argmax(-1)[real].cpu().numpy()))
            found.append(tuple(np.concatenate(each) for each in zip(*parts, strict=True)) if parts else (np.empty(0, np.int64),) * 3)
    return found  # type: ignore[return-value]
