"""Mean losses of models on pools of documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch

from dsel.context import World
from dsel.functional.likelihood import document_losses
from dsel.pool import Pool
from dsel.protocol import Objective


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
    assert world.model is not None
    return partial(_losses, heads, world.objective, world.model.context)


def mean_loss(model: torch.nn.Module, world: World, pool: Pool) -> float:
    """Loss per predicted token in nats, over all tokens of all documents; each document is read from its own start."""
    assert world.model is not None
    return _losses({"": pool}, world.objective, world.model.context, model)[""]


def _losses(pools: Mapping[str, Pool], objective: Objective, context: int, model: torch.nn.Module) -> dict[str, float]:
    """By name. A function of the module: other processes may be given it."""
    found = {name: document_losses([model], objective, pool.table, context) for name, pool in pools.items()}
    return {name: float(losses.sum() / max(counts.sum(), 1)) for name, (losses, counts) in found.items()}
