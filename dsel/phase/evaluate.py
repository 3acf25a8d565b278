"""Evaluate: losses of the newest checkpoint on the target's test documents and on the generic pool."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsel.context import World
from dsel.error import InputError
from dsel.state import State


@dataclass(frozen=True)
class Evaluate:
    """Measures `target_loss_<suffix>` and `pool_loss_<suffix>`, in nats per token; `pool_loss` is the newest of the latter.

    At most `max_tokens` tokens of each part are read. `checkpoint`: the phase whose model is measured; null = the newest.
    """

    suffix: str
    checkpoint: str | None = None
    max_tokens: int = 1_000_000

    needs_checkpoint = True  # it measures a model
    trains = False

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write metrics.json."""
        from dsel.training.checkpoint import load_model
        from dsel.training.evaluation import losses_on

        trained = state.checkpoint_of(self.checkpoint)
        if trained is None:
            raise InputError(f"phases.{world.name}.checkpoint={self.checkpoint}: no phase of that name has trained before it")
        model = load_model(trained)
        pools = {f"target_loss_{self.suffix}": world.corpus.test, f"pool_loss_{self.suffix}": world.corpus.holdout}
        metrics = losses_on(pools, world, self.max_tokens)(model)
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
        return {}

    def read(self, state: State, world: World, folder: Path) -> State:
        """The state with the metrics."""
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        if f"pool_loss_{self.suffix}" in metrics:
            metrics["pool_loss"] = metrics[f"pool_loss_{self.suffix}"]
        return state.with_metrics(**metrics)
