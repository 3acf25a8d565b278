"""An encoder pretrained on documents by masked language modelling: the base model where there is no other, and no network."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dsel import corpus as corpora
from dsel.artifact import fingerprint, hash_code, hash_module
from dsel.base_encoder import BaseEncoder
from dsel.context import World
from dsel.error import InputError
from dsel.protocol import Data, Model, Phase
from dsel.state import State
from dsel.stream import PoolStream

NAME = "docs"
POOLINGS = ("cls", "mean")
MADE_OF = ("documents", "model", "train", "seed")  # keys that its weights hang on
CODE = ("dsel.corpus", "dsel.objective", "dsel.pool", "dsel.tokens", "dsel.training")


@dataclass(frozen=True)
class Docs:
    """Trains `model`, a masked one, on the source of `documents` as `train` says; its tokens come from them too. `seed` is the encoder's
    own: the runs of a sweep begin from the same. Of a row `context` tokens are read. It is tuned with `learning_rate` where nobody says
    otherwise."""

    documents: Data
    model: Model
    train: Phase
    pooling: str = "mean"
    context: int = 64
    learning_rate: float = 1.0e-3
    seed: int = 0

    def identity(self) -> Any:
        """That of the documents."""
        return self.documents.identity()

    def prepare(self, world: World) -> BaseEncoder:
        """The encoder, trained or found on disk: an artifact that runs on any tasks share."""
        config, store = world.config["encoder"], world.store
        if self.pooling not in POOLINGS:
            raise InputError(f"encoder.pooling={self.pooling}: must be {' or '.join(POOLINGS)}, since pretraining makes no pooler")
        if not 4 <= self.context <= self.model.context:
            raise InputError(f"encoder.context={self.context}: must be 4 to encoder.model.context={self.model.context}")
        own, code = {name: config[name] for name in MADE_OF}, {name: hash_module(name) for name in CODE}
        key = fingerprint(own, self.documents.identity(), hash_code(own), code)
        folder, _ = store.get("encoder", key, lambda folder: self._train(world, folder, key))
        return BaseEncoder(str(folder / "model"), f"{NAME}-{key[:8]}", self.pooling, self.context, key)

    def _train(self, world: World, folder: Path, key: str) -> Mapping[str, Any]:
        own = self._world(world, key)
        started = time.monotonic()
        cost = self.train.run(State(key), own, folder)
        assert own.tokenizer is not None
        own.tokenizer.save_pretrained(folder / "model")
        return {**cost, "seconds": time.monotonic() - started}

    def _world(self, world: World, key: str) -> World:
        """The run's, with these documents and this model in the place of its own."""
        split = corpora.Split()
        place, _ = world.store.get(
            "corpus", fingerprint(key, "documents"), lambda folder: corpora.prepare(self.documents.read(), split, folder)
        )
        corpus = corpora.load(place)
        return replace(
            world, name=NAME, seed=self.seed, corpus=corpus, model=self.model, objective=self.model.objective,
            stream=PoolStream(corpus.source, None), tokenizer=self.model.tokenizer(corpus.source), tokenizer_key=key,
        )  # fmt: skip
