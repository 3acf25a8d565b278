"""Mean losses of models on pools of documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from dsel.context import World
from dsel.functional.likelihood import document_losses
from dsel.pool import Pool


def head_of(pool: Pool, num_tokens: int) -> Pool:
    """As many of the first documents as hold about `num_tokens` tokens; documents of a part stand in no order of content."""
    if len(pool) == 0:
        return pool
    order = np.random.default_rng(0).permutation(len(pool))  # a fixed draw: documents of one module stand together
    count = int(np.searchsorted(np.cumsum(pool.token_counts()[order]), num_tokens)) + 1
    return pool.take(np.sort(order[:count]))


def losses_on(pools: Mapping[str, Pool], world: World, num_tokens: int) -> Callable[[torch.nn.Module], dict[str, float]]:
    """A function from a model to its mean loss on each of `pools`, on at most about `num_tokens` tokens; empty pools are left out."""
    heads = {name: head_of(world.tokenized(pool), num_tokens) for name, pool in pools.items() if len(pool)}
    return lambda model: {name: mean_loss(model, world, head) for name, head in heads.items()}


def mean_loss(model: torch.nn.Module, world: World, pool: Pool) -> float:
    """Loss per predicted token in nats, over all tokens of all documents; each document is read from its own start."""
    assert world.model is not None
    losses, counts = document_losses([model], world.objective, pool.table, world.model.context)
    return float(losses.sum() / max(counts.sum(), 1))
