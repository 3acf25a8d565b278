"""Train: from a checkpoint (or scratch) to a checkpoint, on one part of the data."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsel.error import InputError
from dsel.functional.schedule import SCHEDULES
from dsel.pool import Pool
from dsel.protocol import OnlineSelector, World
from dsel.state import State

if TYPE_CHECKING:  # a run that trains nothing builds this phase and need not wait for torch and Lightning
    import torch

    from dsel.training.mask_record import MaskRecord

ONLINE, ONLINE_STEPS = "online.json", "online.parquet"
STARTS = ("scratch", "weights", "resume")


@dataclass(frozen=True)
class Train:
    """Trains on `data`: a part of the corpus (source, finetune, target), "selection", or shares of several, {source: 0.9, target: 0.1}.

    The learning-rate schedule runs over `total_steps` and belongs to the run: this phase goes on until the share `until` of it.
    `start`: "scratch" builds the model; "resume" keeps weights, optimizer, schedule and step of the newest checkpoint (or of
    phase `checkpoint`); "weights" keeps the weights and begins a schedule of its own. `keep="best"` ends with the weights of
    the lowest validation loss, `patience` stops after so many curve points without a better one.
    """

    optimizer: Callable[..., Any]  # of parameters
    trainer: Callable[..., Any]  # of what a run sets
    data: str | Mapping[str, float] = "source"
    start: str = "scratch"
    checkpoint: str | None = None
    total_steps: int = 1000
    until: float = 1.0
    batch_size: int = 16
    schedule: str = "cosine"
    warmup: int = 50
    every: int = 50
    keep: str = "last"
    patience: int | None = None
    eval_tokens: int = 8192
    label_smoothing: float = 0.0
    online: OnlineSelector | None = None

    def __post_init__(self) -> None:
        for key, allowed in (("start", STARTS), ("schedule", SCHEDULES), ("keep", ("last", "best"))):
            if getattr(self, key) not in allowed:
                raise InputError(f"phase train: {key}={getattr(self, key)!r} must be one of {', '.join(allowed)}")
        if not 0 <= self.until <= 1:
            raise InputError(f"phase train: until={self.until} is a share of total_steps, between 0 and 1")

    trains = True

    @property
    def needs_checkpoint(self) -> bool:
        """Whether an earlier phase must have trained."""
        return self.start != "scratch"

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write model, optimizer state and curve; returns tokens, optimizer steps and FLOPs (6 x parameters x tokens)."""
        import polars as pl

        from dsel.training.checkpoint import save_model, save_training
        from dsel.training.evaluation import losses_on
        from dsel.training.fit import Plan, fit

        assert world.model is not None, "the run prepares a model for every train phase"
        assert world.tokenizer is not None
        model, first, optimizer_state = self._begin(state, world)
        stop = max(first, round(self.until * self.total_steps))
        plan = Plan(self.total_steps, first, stop, self.schedule, self.warmup, self.every, self.keep, self.patience, self.label_smoothing)
        cost = {"tokens": 0, "optimizer_steps": 0, "flops": 0.0, "train_documents": 0}
        rows: list[dict[str, float]] = []
        if stop > first:
            parts = self._parts(state, world)
            batches = world.objective.batches(parts, world.model.context, self.batch_size, world.phase_seed("order"))
            held_out = {"target_loss": world.corpus.validation, "pool_loss": world.corpus.holdout}
            measure = losses_on(held_out, world, self.eval_tokens)
            fitted = fit(
                model, world.objective, batches, plan, self.optimizer, self.trainer, measure, world.name,
                world.phase_seed("dropout"), optimizer_state, self.online, self._clean(world),
            )  # fmt: skip
            rows, taken = fitted.curve, fitted.steps_taken
            _save_record(fitted.record, folder)
            tokens = taken * self.batch_size * world.model.context
            size = sum(p.numel() for p in model.parameters())
            documents = sum(len(pool) for pool, _ in parts.values())
            cost = {
                "tokens": tokens,
                "optimizer_steps": taken,
                "flops": 6.0 * size * tokens,
                "train_documents": documents,
            }
            save_training(folder, first + taken, fitted.optimizer_state)
        else:
            save_training(folder, first, optimizer_state or {"state": {}, "param_groups": []})
        save_model(model, folder)
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(folder / "curve.parquet")
        return cost

    def read(self, state: State, world: World, folder: Path) -> State:
        """The state with this phase's checkpoint, and what online selection did as metrics."""
        state = state.with_checkpoint(world.name, folder)
        path = folder / ONLINE
        return state.with_metrics(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else state

    def _clean(self, world: World) -> Any:
        """Batches of the target sample, as large as the online selector wants them. Errors: the sample is smaller than one."""
        if self.online is None or not self.online.clean_share:
            return None
        assert world.model is not None
        pool, size = world.tokenized(world.corpus.target), self.online.clean_share * self.batch_size
        tokens = int(pool.token_counts().sum())
        if tokens < size * world.model.context:
            raise InputError(
                f"phases.{world.name}.online: the target sample holds {tokens} tokens, fewer than the {size * world.model.context:.0f} of "
                "a clean batch; raise split.target, or lower online.clean_share"
            )
        return world.objective.batches({"target": (pool, 1.0)}, world.model.context, max(1, round(size)), world.phase_seed("clean"))

    def _begin(self, state: State, world: World) -> tuple[torch.nn.Module, int, dict[str, Any] | None]:
        """Model, step of the schedule, optimizer state."""
        import torch

        from dsel.training.checkpoint import load_model, load_training

        assert world.model is not None, "the run prepares a model for every train phase"
        assert world.tokenizer is not None
        if self.start == "scratch":
            with torch.random.fork_rng():
                torch.manual_seed(world.phase_seed("weights"))
                return world.model.build(len(world.tokenizer)), 0, None
        folder = state.checkpoint_of(self.checkpoint)
        if folder is None:
            raise InputError(
                f"phases.{world.name}: start={self.start} needs the checkpoint of phase {self.checkpoint}; trained so far: "
                f"{', '.join(state.checkpoints) or 'none'}; set phases.{world.name}.start=scratch or reorder pipeline"
            )
        if self.start == "weights":
            return load_model(folder), 0, None
        step, optimizer_state = load_training(folder)
        return load_model(folder), step, optimizer_state if optimizer_state["param_groups"] else None  # none: no step was taken yet

    def _parts(self, state: State, world: World) -> dict[str, tuple[Pool, float]]:
        shares = {self.data: 1.0} if isinstance(self.data, str) else dict(self.data)
        return {name: (self._part(name, state, world), share) for name, share in shares.items()}

    def _part(self, name: str, state: State, world: World) -> Pool:
        pools = world.corpus.pools()
        if name == "selection":
            if state.selection is None:
                raise InputError(f"phases.{world.name}.data=selection: nothing is selected yet; put select before it in pipeline")
            return world.tokenized(pools["source"]).take(state.selection.units, "selection")
        if name not in pools:
            raise InputError(f"phases.{world.name}.data={name}: must be selection or one of {', '.join(pools)}")
        return world.tokenized(pools[name])


def _save_record(record: MaskRecord, folder: Path) -> None:
    """Write what online selection did, a row a step, and its metrics."""
    import polars as pl

    if record.rows:
        pl.DataFrame(record.rows, infer_schema_length=None).write_parquet(folder / ONLINE_STEPS)
        (folder / ONLINE).write_text(json.dumps(record.metrics(), indent=1), encoding="utf-8")
