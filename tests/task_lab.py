"""What a method of tasks may look at in a test: a run on small sums that has trained on all tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from made_up_corpus import resolve

from dsel.artifact import Store
from dsel.build import build
from dsel.context import Context, World
from dsel.phase.score import make_context
from dsel.pipeline import Run
from dsel.pool import Pool
from dsel.state import State

SMALL = [
    "data.num_clean=3", "data.num_noisy=3", "data.group_size=8", "data.num_target=40", "data.num_digits=2", "model.num_layers=1",
    "model.dim=16", "model.num_heads=2", "model.context=24", "model.vocab_size=300", "steps.meta=30", "steps.retrain=3", "steps.total=4",
    "trainer=debug", "phases.meta.optimizer.lr=0.01", "phases.meta.warmup=2",
]  # fmt: skip


def task_config(outputs: Path, *overrides: str, experiment: str = "gradex_estimate") -> dict[str, Any]:
    """The resolved config of `dsel experiment=... overrides`, made small."""
    return resolve([f"experiment={experiment}", f"paths.outputs={outputs}", *SMALL, *overrides])


@dataclass(frozen=True)
class TaskLab:
    """A run that has trained on all tasks and is about to choose some."""

    config: dict[str, Any]
    store: Store
    world: World
    state: State

    @staticmethod
    def make(outputs: Path) -> TaskLab:
        """Train it."""
        config = task_config(outputs)
        config["pipeline"] = ["meta"]
        run, store = Run(config), Store(outputs / "artifacts")
        state = run.fold(store)
        return TaskLab(config, store, replace(run.world(store), name="select"), state)

    @property
    def source(self) -> Pool:
        """The tasks, with tokens."""
        return self.world.tokenized(self.world.corpus.source)

    @property
    def target(self) -> Pool:
        """The selector's sample, with tokens."""
        return self.world.tokenized(self.world.corpus.target)

    def context(self, **changes: Any) -> Context:
        """A fresh context, as the select phase makes it."""
        tune = build(self.config["phases"]["select"]["tune"])
        return replace(make_context(tune, self.state, self.world, self.world.tokenized), **changes)

    def component(self, group: str, name: str, *overrides: str) -> Any:
        """A component as its yaml has it."""
        return build(task_config(self.store.root.parent, f"{group}={name}", *overrides)[group])
