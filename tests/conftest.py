"""Fixtures of the core tests: a made-up corpus, a tiny model that was really trained, and what a method may look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up_corpus import tiny_config, write_files

from dsel.artifact import Store
from dsel.build import build
from dsel.corpus import Corpus
from dsel.phase.score import make_context
from dsel.phase.train import Train
from dsel.pipeline import Run
from dsel.pool import Pool
from dsel.protocol import Context, World
from dsel.state import State


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # matrices are tiny; and sums do not depend on the machine
    yield
    torch.set_num_threads(before)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """`source.jsonl` and `target.jsonl` of the made-up corpus."""
    return write_files(tmp_path)


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
        from made_up_corpus import make_pool

        return self.world.tokenized(make_pool([{"text": text} for text in texts], name))


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """One pretrained tiny model for all tests that only look at it."""
    folder = tmp_path_factory.mktemp("lab")
    source, target = write_files(folder)
    config = tiny_config(source, target, folder / "outputs", "steps.total=60")
    config["pipeline"] = ["pretrain"]
    config["phases"]["pretrain"] |= {"until": 1.0, "batch_size": 8, "every": 60}
    config["phases"]["pretrain"]["optimizer"] = {**config["phases"]["pretrain"]["optimizer"], "lr": 1e-2}
    run, store = Run(config), Store(folder / "outputs" / "artifacts")
    state = run.fold(store)
    return Lab(config, run, store, replace(run.world(store), name="score"), state, source, target)


@pytest.fixture(scope="session")
def corpus(lab: Lab) -> Corpus:
    """The lab's corpus."""
    return lab.world.corpus
