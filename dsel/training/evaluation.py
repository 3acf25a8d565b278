"""Mean losses of models on pools of documents."""

from __future__ import annotations

import numpy as np
import torch

from dsel.functional.likelihood import document_losses
from dsel.pool import TOKENS, Pool
from dsel.protocol import World


def head_of(pool: Pool, num_tokens: int) -> Pool:
    """As many of the first documents as hold about `num_tokens` tokens; documents of a part stand in no order of content."""
    if len(pool) == 0:
        return pool
    order = np.random.default_rng(0).permutation(len(pool))  # a fixed draw: documents of one module stand together
    count = int(np.searchsorted(np.cumsum(pool.token_counts()[order]), num_tokens)) + 1
    return pool.take(np.sort(order[:count]))


def mean_loss(model: torch.nn.Module, world: World, pool: Pool) -> float:
    """Loss per predicted token in nats, over all tokens of all documents; each document is read from its own start."""
    assert world.model is not None
    losses, counts = document_losses([model], world.objective.token_losses, pool.table[TOKENS], world.model.context)
    return float(losses.sum() / max(counts.sum(), 1))
