"""Tail-patch: does one more step on what attribution puts first make a query more likely?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from dsel.context import World
from dsel.error import InputError
from dsel.phase.attribute import metrics_of, read_scores
from dsel.phase.queries import Asking
from dsel.pool import Pool
from dsel.progress import progress
from dsel.state import State

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TailPatch(Asking):
    """For each query and each of the `top` units with the highest scores of phase `attribution`: one step of plain gradient descent on the
    unit's mean token loss from the newest checkpoint, at `learning_rate`; `tail_patch` is by how many nats the query's mean token loss
    falls, over all of them (arXiv 2410.17413). `tail_patch_random` is the same of units drawn at random.
    """

    attribution: str = "attribute"
    top: int = 10
    learning_rate: float = 0.1

    needs_checkpoint = True
    trains = False

    def __post_init__(self) -> None:
        if self.top < 1:
            raise InputError(f"phase tail_patch: top={self.top}: must be at least 1")
        if self.learning_rate <= 0:
            raise InputError(f"phase tail_patch: learning_rate={self.learning_rate}: must be above 0")

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write metrics.json."""
        from dsel.training.checkpoint import load_model

        source, queries = world.tokenized(world.corpus.source), self.query_pool(world)
        scores = read_scores(state, self.attribution, source, queries, world)
        checkpoint = state.checkpoint_of(None)
        assert checkpoint is not None, "the run trains before"
        model, count = load_model(checkpoint), min(self.top, len(source))
        rng = np.random.default_rng(world.phase_seed("random"))
        falls, at_random = [], []
        with progress("tail-patch", len(queries), "queries") as bar:
            for query in range(len(queries)):
                asked = queries.take(np.array([query]))
                first = np.argsort(-scores[:, query], kind="stable")[:count]
                falls += self._falls(model, source, first.tolist(), asked, world)
                at_random += self._falls(model, source, rng.choice(len(source), count, replace=False).tolist(), asked, world)
                bar.advance(1)
        metrics = {"tail_patch": float(np.mean(falls)), "tail_patch_random": float(np.mean(at_random))}
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
        return {"optimizer_steps": len(falls) + len(at_random)}

    def read(self, state: State, world: World, folder: Path) -> State:
        """The state with the metrics."""
        return state.with_metrics(**metrics_of(folder))

    def _falls(self, model: torch.nn.Module, source: Pool, units: list[int], asked: Pool, world: World) -> list[float]:
        """Of the query's loss, after a step on each unit."""
        from dsel.functional.alignment import trainable
        from dsel.functional.gradients import moved
        from dsel.training.evaluation import mean_loss

        before, found = mean_loss(model, world, asked), []
        for unit in units:
            direction = _gradient(model, source.table.slice(unit, 1), world)
            with moved(trainable(model), direction, -self.learning_rate):
                found.append(before - mean_loss(model, world, asked))
        return found


def _gradient(model: torch.nn.Module, unit: pa.Table, world: World) -> dict[str, torch.Tensor]:
    """Of a unit's mean token loss."""
    import torch

    from dsel.functional.alignment import trainable
    from dsel.functional.curvature import TrainingLoss

    assert world.model is not None
    batches = [batch for _, batch in world.objective.rows(unit, world.model.context, world.model.context)]
    if not any(bool(world.objective.predicted(batch).any()) for batch in batches):
        return {name: torch.zeros_like(p) for name, p in trainable(model).items()}
    return TrainingLoss(model, world.objective, batches).gradient()
