"""Losses of documents under a model, from batches sorted by length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

if TYPE_CHECKING:
    from dsel.protocol import Objective

TOKENS_PER_BATCH = 2048  # logits of one batch then stay under the size from which glibc maps fresh pages for every allocation


def document_losses(
    models: list[torch.nn.Module], objective: Objective, table: pa.Table, context: int, tokens_per_batch: int = TOKENS_PER_BATCH
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Summed loss (document, model) in nats, and number of predicted tokens (document,).

    All models see the same batches. Every predicted token of a document counts once, however long the document.
    """
    total, counts = np.zeros((table.num_rows, len(models))), np.zeros(table.num_rows, np.int64)
    device = next(models[0].parameters()).device
    with torch.inference_mode():
        for document, batch in objective.rows(table, context, tokens_per_batch):
            here = batch.to(device)
            losses = [objective.token_losses(model, here).sum(1, dtype=torch.float64) for model in models]
            np.add.at(total, document, torch.stack(losses, 1).cpu().numpy())
            np.add.at(counts, document, objective.predicted(batch).sum(1).numpy())
    return total, counts
