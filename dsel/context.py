"""What a run stands on, and what a method may look at of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dsel.artifact import Store, fingerprint
from dsel.corpus import Corpus
from dsel.error import InputError
from dsel.features import Features
from dsel.labelled import LabelledTask
from dsel.pool import Pool
from dsel.protocol import Executor, Model, Objective, Stream
from dsel.scores import Scores
from dsel.subset import FineTuned
from dsel.tokens import tokenize

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from dsel.functional.projection import Projection
    from dsel.functional.space_map import SpaceMap


@dataclass(frozen=True)
class World:
    """What stays the same throughout a run. A phase may look at all of it."""

    name: str  # of the phase that runs now
    seed: int
    corpus: Corpus
    model: Model | None
    objective: Objective
    executor: Executor
    store: Store
    stream: Stream  # the source as a whole, of which the corpus may hold a sample only
    tokenizer: PreTrainedTokenizerBase | None
    tokenizer_key: str
    config: Mapping[str, Any]  # the run's, resolved, for the record

    def phase_seed(self, purpose: str = "") -> int:
        """A seed that depends on the run's seed, the phase's name and the purpose only: phases do not shift each other's draws."""
        return int(fingerprint(self.seed, self.name, purpose)[:8], 16)

    def tokenized(self, pool: Pool) -> Pool:
        """The pool with its `dsel_tokens` column, computed once. Errors: the run has no model, hence no tokenizer."""
        if self.tokenizer is None:
            raise InputError(f"phase {self.name}: needs tokens, but the run has no model; set model=tiny or another one")
        if set(self.objective.sides) <= set(pool.table.column_names):
            return pool
        return tokenize(pool, self.tokenizer, self.objective.sides, self.store, self.tokenizer_key)


@dataclass(frozen=True)
class Snapshot:
    """A model on the way through training, ready to be differentiated, the mean learning rate on the way to it, the names of the parameters
    that were trained, and by name of a parameter
    the running means of gradients and of their squares, where the optimizer kept them."""

    model: torch.nn.Module
    learning_rate: float
    trained: Sequence[str]
    moments: Mapping[str, tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Context:
    """All that a method may look at, besides the source and the target.

    `load(name)` gives a phase's trained model, frozen; `load(None)` the newest. `tune(examples, ...)` fine-tunes a copy of the newest
    on examples, once for all methods that ask for the same; so does `fine_tune`, as the phase's `tune` says. `held_out` are target
    documents for early stopping. `rng` depends on the seed and on the phase's name only.
    """

    rng: np.random.Generator
    seed: int
    held_out: Pool  # target documents for early stopping, with tokens where there is a model
    finetune: Pool  # the documents of the fine-tuning phase, likewise
    objective: Objective
    load: Callable[[str | None], torch.nn.Module]
    tune: Callable[..., torch.nn.Module]
    tokenize: Callable[[Pool], Pool]
    tokenizer: PreTrainedTokenizerBase | None
    model: Model | None
    fine_tune: Callable[..., FineTuned]  # (pool, target, repeat=0): a copy of the newest model on pool; losses on the target's units
    features: Callable[[Sequence[Pool], Projection], Features]  # of all units of the pools, under the newest model
    checkpoint: Callable[[str | None], Path]  # folder of a phase's trained model, or of the newest
    trained: Sequence[str]  # names of the phases that have trained, in order
    snapshots: Callable[[str | None], Iterator[Snapshot]]  # of a phase's training
    pretraining: Pool  # the documents of the run's source, with tokens where there is a model
    keep: Callable[[Any, str, Any, Callable[[Path], None]], Path]  # (of what, name, options, write): an artifact's folder
    scores: Scores | None = None


@dataclass(frozen=True)
class Seen:
    """What a tuned model makes of rows: `embeddings` (row, dim), `outputs` (row, output): logits, or a number."""

    embeddings: npt.NDArray[np.float32]
    outputs: npt.NDArray[np.float32]


@dataclass(frozen=True)
class TaskContext:
    """All that a scorer of tasks may look at. Sources go by their names; what is asked of them is made once, for all that ask."""

    sources: Sequence[str]
    target: LabelledTask
    seed: int
    rows: Callable[[str], LabelledTask]  # of a source
    base: Callable[[], npt.NDArray[np.float32]]  # the base encoder's embeddings of the target's rows (row, dim)
    base_of: Callable[[str], npt.NDArray[np.float32]]  # those of a source's
    tuned: Callable[[str], Seen]  # the target's rows under the model that was tuned on a source
    is_classifier: Callable[[str], bool]  # whether that model has classes
    space_map: Callable[[str], SpaceMap]
    fisher: Callable[[str | None], npt.NDArray[np.float32]]  # of the base encoder's parameters on a source, or on the target
    tokens: Callable[[str | None], npt.NDArray[np.int64]]  # of all rows of a source, or of the target

    def score_classifiers(self, score: Callable[[npt.NDArray[np.float32], npt.NDArray[np.int64]], float]) -> npt.NDArray[np.float64]:
        """Scores (source,), of a source's logits of the target's rows (row, class) and their labels (row,); NaN for a source that is a
        regression, and for all where the target is one."""
        if self.target.is_regression:
            return np.full(len(self.sources), np.nan)
        labels = self.target.labels.astype(np.int64)
        return np.array([score(self.tuned(name).outputs, labels) if self.is_classifier(name) else np.nan for name in self.sources])
