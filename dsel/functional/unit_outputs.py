"""What a model makes of each unit: its log odds, the loss that estimates are of, and a vector that stands for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from dsel.functional.log_odds import log_odds

if TYPE_CHECKING:
    from dsel.protocol import Objective

TOKENS_PER_BATCH = 2048
Floats = npt.NDArray[np.float64]


def unit_outputs(model: torch.nn.Module, objective: Objective, table: pa.Table, context: int) -> Floats:
    """f (unit,): the mean over a unit's predicted tokens of log(p / (1 - p)), p the probability of the right one (arXiv 2409.19458)."""
    outputs, counts = np.zeros(table.num_rows), np.zeros(table.num_rows)
    device = next(model.parameters()).device
    with torch.inference_mode():
        for unit, batch in objective.rows(table, context, TOKENS_PER_BATCH):
            here = batch.to(device)
            predicted = objective.predicted(here)
            weights = predicted.sum(1).double().cpu().numpy()
            f = log_odds(objective.token_losses(model, here), predicted).double().cpu().numpy()
            np.add.at(outputs, unit, f * weights)
            np.add.at(counts, unit, weights)
    return outputs / np.maximum(counts, 1)


def logistic_losses(outputs: Floats) -> Floats:
    """log(1 + exp(-f)), elementwise: what the estimates of GradEx are of."""
    losses: Floats = np.logaddexp(0.0, -outputs)
    return losses


def unit_vectors(model: torch.nn.Module, objective: Objective, table: pa.Table, context: int) -> npt.NDArray[np.float32]:
    """(unit, dim): the mean over tokens of what the output layer is given."""
    layer = model.get_output_embeddings()  # type: ignore[operator]
    seen: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    vectors: npt.NDArray[np.float32] | None = None
    device = next(model.parameters()).device
    try:
        with torch.inference_mode():
            for units in _of_one_length(objective, table):
                for unit, batch in objective.rows(table.take(pa.array(units)), context, TOKENS_PER_BATCH):
                    seen.clear()
                    objective.token_losses(model, batch.to(device))
                    found = seen[-1].mean(1).float().cpu().numpy()
                    vectors = np.zeros((table.num_rows, found.shape[1]), np.float32) if vectors is None else vectors
                    vectors[units[unit]] = found  # of a unit in several rows the last
    finally:
        handle.remove()
    return np.zeros((0, 0), np.float32) if vectors is None else vectors


def _of_one_length(objective: Objective, table: pa.Table) -> list[npt.NDArray[np.int64]]:
    """The units in groups of the same number of tokens on all sides: no batch of one needs padding, which a mean would take in."""
    lengths: Any = np.stack([pa.compute.list_value_length(table[name]).to_numpy() for name in objective.sides], 1)
    _, group = np.unique(lengths, axis=0, return_inverse=True)
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
