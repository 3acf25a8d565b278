"""The architecture: what a component must be able to do. Components know each other only by this page.

source + target ──> score ──> select ──> train ──> evaluate ──> report
             (a number per unit) (which units)  (phases)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.corpus import Documents
from dsel.functional.masks import Subsets
from dsel.pool import Budget, Pool
from dsel.selection import Selection
from dsel.sieve import Sieve
from dsel.state import State
from dsel.subset import Work
from dsel.tokens import Side

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from dsel.base_encoder import BaseEncoder
    from dsel.context import Context, TaskContext, World
    from dsel.functional.curvature import TrainingLoss
    from dsel.functional.inverse_curvature import InverseCurvature

Item = TypeVar("Item")
Result = TypeVar("Result")
FittedScore = Callable[[pa.Table], npt.NDArray[np.float32]]
"""Maps a batch of examples to scores (unit, target), larger = keep. Small and picklable: it may run anywhere."""


class Scorer(Protocol):
    """Gives every unit a number: fit once on (a sample of) the source and on the target, then map."""

    reads: Sequence[str]
    """Columns of the examples that the fitted score looks at, e.g. `("text",)` or `("dsel_tokens",)`."""

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore: ...


class Selector(Protocol):
    """Chooses units within the budget; `ByScore` is the usual one."""

    def select(self, source: Pool, target: Pool, budget: Budget, context: Context) -> Selection: ...


@runtime_checkable
class StreamSelector(Protocol):
    """A selector that can choose from a stream, since nothing but a number of its own decides a unit's place."""

    @property
    def from_middle(self) -> bool:
        """Whether units are taken from the middle of the order outwards, not from its top down."""
        ...

    def keys(self, values: npt.NDArray[np.float32], names: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.float64]:
        """What units are ordered by (unit,), largest first, of scores (unit, target); `names` are hashes of the texts."""
        ...

    def reduced(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The score (unit,) that is written out, of scores (unit, target)."""
        ...


class Estimate(Protocol):
    """What is known of a source and a target, from which any number of subsets can be judged. Tasks are numbered by the order of their
    names."""

    @property
    def work(self) -> Work:
        """What it took to get here, as if nothing had been found on disk."""
        ...

    def __call__(self, subsets: Subsets) -> npt.NDArray[np.float64]:
        """Loss (subset, column) on the target after fine-tuning on each subset, smaller is better: a column for each of the target's
        units, or one for all. Errors: a mask of another width, a subset without a task."""
        ...

    def flops(self, num_subsets: int) -> float:
        """Of judging so many subsets more."""
        ...


class SubsetEstimator(Protocol):
    """Says what fine-tuning on subsets of the source's tasks would lead to, without doing it for each."""

    def fit(self, source: Pool, target: Pool, context: Context) -> Estimate: ...


class TaskScorer(Protocol):
    """Says of each source task how much the target should gain from being learnt after it."""

    needs: Sequence[str]
    """What is kept of each source: of "tuned" (its model), "map", "embedding", "fisher", "tokens"."""

    def score(self, context: TaskContext) -> npt.NDArray[np.float64]:
        """Scores (source,), larger = better; NaN where there is nothing to say."""
        ...


Keep = Callable[[str, Any, Callable[[Path], None]], Path]
"""From a name, what it hangs on, and what writes it into a folder, to that folder: written now, or found."""


class Curvature(Protocol):
    """How products with the inverse of a training loss's damped curvature are had."""

    linear_only: bool
    """Whether it is of the parameters of linear layers only."""

    def fit(self, loss: TrainingLoss, names: list[str], more: Mapping[str, float], seed: int, keep: Keep) -> InverseCurvature:
        """The inverse over these parameters; `more`, by name, is added to its own damping."""
        ...


class EncoderSource(Protocol):
    """How the encoder comes to be that tasks are learnt from."""

    def identity(self) -> Any:
        """JSON-like value that changes with what it hangs on besides its options, such as files; asked at every launch."""
        ...

    def prepare(self, world: World) -> BaseEncoder: ...


class Phase(Protocol):
    """One link of a run. `run` does the work and writes `folder`; `read` takes the next state from `folder` alone.

    Two methods, so that a run that computes a phase and a run that finds it on disk take the same path.
    `run` returns the phase's cost (tokens, optimizer_steps, scoring_passes ...; seconds are added).
    """

    trains: bool
    """Whether it leaves a model. Training that no later phase needs is left out."""

    @property
    def needs_checkpoint(self) -> bool:
        """Whether an earlier phase must have trained a model."""
        ...

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]: ...

    def read(self, state: State, world: World, folder: Path) -> State: ...


class Losses(Protocol):
    """What is trained to be small."""

    def token_losses(self, model: torch.nn.Module, batch: Any, smoothing: float = 0.0) -> torch.Tensor:
        """Loss of each predicted token (batch, time), in nats; 0 where there is nothing to predict. `smoothing` of the labels."""
        ...

    def outputs(self, model: torch.nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """What losses are made of: the model's scores (batch, time, class) and labels (batch, time), `IGNORE` where there is none; or
        numbers (batch, time, 1) and labels that are numbers."""
        ...

    def predicted(self, batch: Any) -> torch.Tensor:
        """Which of the losses (batch, time) are of tokens."""
        ...


class Objective(Losses, Protocol):
    """The one thing that knows the data format: what a batch is, and how examples become one."""

    @property
    def sides(self) -> Mapping[str, Side]:
        """By its name, every column of tokens, and what it is made of. Those that are predicted are `dsel_tokens`."""
        ...

    def batches(self, pools: Mapping[str, tuple[Pool, float]], context: int, batch_size: int, seed: int) -> Any:
        """A torch dataset with a training batch by step, of about `batch_size` times `context` tokens from all pools by their shares."""
        ...

    def join(self, batches: Sequence[Any]) -> Any:
        """Batches one below the other, padded to one width."""
        ...

    def rows(self, table: pa.Table, context: int, tokens_per_batch: int) -> Iterator[tuple[npt.NDArray[np.int64], Any]]:
        """Every predicted token of every example once: the example of each row (row,), and the batch."""
        ...

    def some(self, table: pa.Table, count: int, context: int) -> Iterator[Any]:
        """Batches of about `count` times `context` tokens in all, evenly from the whole."""
        ...

    def num_cut(self, table: pa.Table, context: int) -> int:
        """How many examples have more tokens than a batch of `context` holds of them, and lose the rest."""
        ...


Turn = Callable[[Mapping[str, "torch.Tensor"]], Mapping[str, "torch.Tensor"]]
"""From a gradient, by parameter, to a direction."""


class OnlineStep(Protocol):
    """A training step as an online selector sees it."""

    number: int
    """Of the run's steps."""

    @property
    def losses(self) -> torch.Tensor:
        """Of each token (example, time)."""
        ...

    @property
    def predicted(self) -> torch.Tensor:
        """Which of them are of tokens (example, time)."""
        ...

    def names(self, pattern: str) -> frozenset[str]:
        """Of the parameters in whose names the regular expression is found. Errors: there are none."""
        ...

    def align(self, method: str, per_token: bool, turn: Turn | None = None, only: Collection[str] | None = None) -> torch.Tensor:
        """<gradient of an example's loss, that of the clean batch> (example,), or of each token's (example, time), over the parameters
        `only` (None: all). `turn` makes of the clean gradient what is aligned with."""
        ...

    def norms(self, only: Collection[str] | None = None) -> torch.Tensor:
        """The norm of each example's gradient (example,)."""
        ...

    def precondition(self, direction: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """What Adam makes of a gradient: divided by the root of its mean square."""
        ...

    def cheapest(self, per_token: bool, turn: Turn | None = None, only: Collection[str] | None = None) -> str:
        """The exact method that takes the least time on this step."""
        ...


Weigh = Callable[[OnlineStep], "torch.Tensor"]
"""Gives examples (example,) or tokens (example, time) of a step a weight of at least 0; 0 drops. What remembers something from one step to
the next is `Stateful`, as an nn.Module is, or training would not go on after a kill as if nothing had been."""


@runtime_checkable
class Stateful(Protocol):
    """What can be written down on the way, and taken up again."""

    def state_dict(self) -> dict[str, Any]:
        """Nested dicts, lists, tuples and sets of tensors, numbers and texts."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """The reverse."""
        ...


class OnlineSelector(Protocol):
    """Chooses inside of the training step: selecting is weighting the loss."""

    @property
    def clean_share(self) -> float:
        """Tokens of clean data that it wants beside a training batch, of those of that batch; 0: none."""
        ...

    @property
    def normaliser(self) -> str:
        """What the weighted loss is divided by: "all" tokens, or those that are "kept"."""
        ...

    def begin(self, seed: int) -> Weigh:
        """What weighs the steps of one training, with whatever it remembers from one to the next."""
        ...


class Data(Protocol):
    """Where documents come from."""

    def identity(self) -> Any:
        """JSON-like value that changes when the data do; cheap, it is asked at every launch."""
        ...

    def read(self) -> Documents: ...


class Stream(Protocol):
    """A source that is never in memory as a whole: pieces, which many readers may read in any order."""

    @property
    def reading(self) -> str:
        """Changes with how pieces are read."""
        ...

    @property
    def pieces(self) -> Sequence[Any]:
        """Each with `path`, `start`, `num_bytes` and `key`, a fingerprint of what it holds."""
        ...

    def sieve(self) -> Sieve:
        """A new one, for the bad rows of a piece."""
        ...

    def read(self, piece: Any, sieve: Sieve) -> Iterator[pa.Table]:
        """The documents of a piece, some at a time: `text`, `dsel_row` (from the piece's first row), where known `id` and `domain`.
        Rows that are none go into `sieve`."""
        ...

    def rows(self, piece: Any, wanted: npt.NDArray[np.int64]) -> Iterator[pa.Table]:
        """These rows of a piece, by `dsel_row`, ascending, some at a time: the user's columns, and `dsel_name`, the hash of the text.
        Errors: one of them cannot be read any more."""
        ...

    def texts(self, piece: Any, wanted: npt.NDArray[np.int64]) -> Iterator[pa.ChunkedArray]:
        """The texts of these rows, ascending, as `read` gives them, some at a time."""
        ...


class Model(Protocol):
    """How a model, and the tokenizer that goes with it, come to be."""

    context: int
    """Tokens per training block, and the most that one scoring row may hold."""

    @property
    def objective(self) -> Objective:
        """What it learns."""
        ...

    def build(self, vocab_size: int) -> torch.nn.Module:
        """A model ready to train; random parts are drawn from torch's generator, which the caller has seeded."""
        ...

    def tokenizer(self, source: Pool) -> PreTrainedTokenizerBase: ...


class Executor(Protocol):
    """Does a piece of work for every item."""

    def map(self, work: Callable[[Item], Result], items: Sequence[Item], sizes: Sequence[int], label: str, unit: str) -> Iterator[Result]:
        """The results, in the order of the items, no more than a few ahead. `work` is picklable; `sizes`, in `unit`s, are for the
        progress bar."""
        ...
