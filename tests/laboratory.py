"""What a method may look at in a test: a run that has pretrained a little."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from made_up_corpus import make_pool

from dsel.artifact import Store
from dsel.build import build
from dsel.context import Context, World
from dsel.phase.score import make_context
from dsel.phase.train import Train
from dsel.pipeline import Run
from dsel.pool import Pool
from dsel.state import State


@dataclass(frozen=True)
class Lab:
    """A run that has pretrained a little and is about to score."""

    config: dict[str, Any]
    run: Run
    store: Store
    world: World
    state: State
    source_file: Path
    target_file: Path

    @property
    def source(self) -> Pool:
        """The pool, with tokens."""
        return self.world.tokenized(self.world.corpus.source)

    @property
    def target(self) -> Pool:
        """The selector's sample, with tokens."""
        return self.world.tokenized(self.world.corpus.target)

    @property
    def tune(self) -> Train:
        """How scorers' own models are tuned."""
        tune: Train = build(self.config["phases"]["score"]["tune"])
        return tune

    def context(self, name: str = "score", **changes: Any) -> Context:
        """A fresh context, as the score phase makes it."""
        world = replace(self.world, name=name)
        return replace(make_context(self.tune, self.state, world, world.tokenized), **changes)

    def pool(self, texts: list[str], name: str = "probe") -> Pool:
        """A pool of other texts, tokenized by the run's tokenizer."""
        return self.world.tokenized(make_pool([{"text": text} for text in texts], name))
