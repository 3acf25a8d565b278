"""Fixtures of the core tests: a made-up corpus, a tiny model that was really trained, and what a method may look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from laboratory import Lab
from made_up_corpus import tiny_config, write_files

from dsel.artifact import Store
from dsel.corpus import Corpus
from dsel.pipeline import Run

settings.register_profile("dsel", deadline=None)  # a busy machine is not an error
settings.load_profile("dsel")


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
