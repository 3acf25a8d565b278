"""Train: from a checkpoint (or scratch) to a checkpoint, on one part of the data."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsel.artifact import scratch
from dsel.context import World
from dsel.error import InputError
from dsel.functional.flops import WITH_BACKWARD, num_parameters
from dsel.functional.schedule import SCHEDULES
from dsel.pool import Pool
from dsel.protocol import OnlineSelector
from dsel.state import State

if TYPE_CHECKING:  # a run that trains nothing builds this phase and need not wait for torch and Lightning
    import torch

    from dsel.training.fit import Fitted, Plan
    from dsel.training.mask_record import MaskRecord

log = logging.getLogger("dsel")

ONLINE, ONLINE_STEPS = "online.json", "online.parquet"
STARTS = ("scratch", "weights", "resume")


@dataclass(frozen=True)
class Train:
    """Trains on `data`: a part of the corpus (source, finetune, target), "selection", or shares of several, {source: 0.9, target: 0.1}.

    The learning-rate schedule runs over `total_steps` and belongs to the run: this phase goes on until the share `until` of it.
    `start`: "scratch" builds the model; "resume" keeps weights, optimizer, schedule and step of the newest checkpoint (or of
    phase `checkpoint`); "weights" keeps the weights and begins a schedule of its own. `keep="best"` ends with the weights of
    the lowest validation loss, `patience` stops after so many curve points without a better one. With `lora`, options of peft's
    `LoraConfig`, low-rank adapters are all that is trained; they are merged into the weights that are written. With `parameters` only
    those are trained in whose names the regular expression is found. `proximity` times the squared distance of what is trained from where
    the phase began is added to the loss (arXiv 2007.09081). `snapshots` of the model are kept on the way, the last at the end.
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
    lora: Mapping[str, Any] | None = None
    parameters: str | None = None
    proximity: float = 0.0
    snapshots: int = 0

    def __post_init__(self) -> None:
        for key, allowed in (("start", STARTS), ("schedule", SCHEDULES), ("keep", ("last", "best"))):
            if getattr(self, key) not in allowed:
                raise InputError(f"phase train: {key}={getattr(self, key)!r} must be one of {', '.join(allowed)}")
        if not 0 <= self.until <= 1:
            raise InputError(f"phase train: until={self.until} is a share of total_steps, between 0 and 1")
        for key in ("proximity", "snapshots"):
            if getattr(self, key) < 0:
                raise InputError(f"phase train: {key}={getattr(self, key)}: must be at least 0")
        if self.lora is not None:
            from dsel.training.adapter import check_options

            check_options(self.lora, "phase train: lora")
            if self.snapshots:
                raise InputError(f"phase train: snapshots={self.snapshots}: are of whole models; set snapshots=0, or lora=null")
            if self.start == "resume":
                raise InputError("phase train: start=resume has no optimizer state for new adapters; set start=weights, or lora=null")

    trains = True

    @property
    def needs_checkpoint(self) -> bool:
        """Whether an earlier phase must have trained."""
        return self.start != "scratch"

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write model, optimizer state and curve; returns tokens, steps, FLOPs (6 x parameters x tokens), what was trained and cut."""
        import polars as pl

        from dsel.functional.alignment import trainable
        from dsel.training.adapter import merged
        from dsel.training.checkpoint import save_model, save_training
        from dsel.training.fit import Plan

        assert world.model is not None, "the run prepares a model for every train phase"
        model, first, optimizer_state = self._begin(state, world)
        stop = max(first, round(self.until * self.total_steps))
        plan = Plan(
            self.total_steps, first, stop, self.schedule, self.warmup, self.every, self.keep, self.patience, self.label_smoothing,
            self.proximity, self.snapshots,
        )  # fmt: skip
        cost = {"tokens": 0, "optimizer_steps": 0, "flops": 0.0, "train_documents": 0, "trained_parameters": 0, "cut_documents": 0}
        rows: list[dict[str, float]] = []
        if stop > first:
            parts = self._parts(state, world)
            size = num_parameters(model)
            trained, num_cut = self.with_adapters(model, world), self._num_cut(parts, world)
            self._freeze_others(trained, world)
            fitted = self._fit(trained, parts, plan, optimizer_state, world, folder)
            rows = fitted.curve
            world.store.count(scratch(folder), fitted.seconds_before)
            _save_record(fitted.record, folder)
            tokens = fitted.steps_taken * self.batch_size * world.model.context
            cost = {
                "tokens": tokens,
                "optimizer_steps": fitted.steps_taken,
                "flops": WITH_BACKWARD * size * tokens,
                "train_documents": sum(len(pool) for pool, _ in parts.values()),
                "trained_parameters": sum(p.numel() for p in trained.parameters() if p.requires_grad),
                "cut_documents": num_cut,
            }
            if self.lora is None:
                save_training(folder, first + fitted.steps_taken, fitted.optimizer_state, list(trainable(trained)))
            else:
                model = merged(trained)
        else:
            save_training(folder, first, optimizer_state or {"state": {}, "param_groups": []}, self._names(model))
        save_model(model, folder)
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(folder / "curve.parquet")
        return cost

    def read(self, state: State, world: World, folder: Path) -> State:
        """The state with this phase's checkpoint, and what online selection did as metrics."""
        state = state.with_checkpoint(world.name, folder)
        path = folder / ONLINE
        return state.with_metrics(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else state

    def _fit(
        self, model: torch.nn.Module, parts: Mapping[str, tuple[Pool, float]], plan: Plan, optimizer_state: Mapping[str, Any] | None,
        world: World, folder: Path,
    ) -> Fitted:  # fmt: skip
        from dsel.training.evaluation import losses_on
        from dsel.training.fit import fit
        from dsel.training.midway import midway

        assert world.model is not None
        batches = world.objective.batches(parts, world.model.context, self.batch_size, world.phase_seed("order"))
        measure = losses_on({"target_loss": world.corpus.validation, "pool_loss": world.corpus.holdout}, world, self.eval_tokens)
        return fit(
            model, world.objective, batches, plan, self.optimizer, self.trainer, measure, world.name,
            world.phase_seed("dropout"), optimizer_state, self.online, self._clean(world),
            folder if self.snapshots else None, midway(world.config, scratch(folder)),
        )  # fmt: skip

    def _num_cut(self, parts: Mapping[str, tuple[Pool, float]], world: World) -> int:
        """How many training documents lose their ends, which is said before hours of work."""
        assert world.model is not None
        context, documents = world.model.context, sum(len(pool) for pool, _ in parts.values())
        num_cut = sum(world.objective.num_cut(pool.table, context) for pool, _ in parts.values())
        if num_cut:
            log.warning(
                "phases.%s: %d of %d training documents have a side longer than model.context=%d tokens and lose the rest; "
                "raise model.context",
                world.name, num_cut, documents, context,
            )  # fmt: skip
        return num_cut

    def with_adapters(self, model: torch.nn.Module, world: World) -> torch.nn.Module:
        """What is trained: the model, or adapters beside it, drawn from a seed of their own."""
        import torch

        from dsel.training.adapter import adapted

        if self.lora is None:
            return model
        with torch.random.fork_rng():
            torch.manual_seed(world.phase_seed("adapter"))
            return adapted(model, self.lora, f"phases.{world.name}.lora")

    def _names(self, model: torch.nn.Module) -> list[str]:
        """Of the parameters that are trained."""
        import re

        return [name for name, p in model.named_parameters() if p.requires_grad and re.search(self.parameters or "", name)]

    def _refuse_others(self, names: Sequence[str], model: torch.nn.Module, world: World) -> None:
        """Errors: the phase that is resumed trained other parameters, whose optimizer state would go to these."""
        asked = self._names(model)
        if asked != list(names):
            raise InputError(
                f"phases.{world.name}.parameters={self.parameters}: start=resume goes on with the {len(names)} parameters that were "
                f"trained before ({', '.join(names[:2])} ...), not with {len(asked)}; give the same, or start=weights"
            )

    def _freeze_others(self, model: torch.nn.Module, world: World) -> None:
        """Of what would be trained, leave what `parameters` does not name as it is. Errors: it names nothing."""
        import re

        if self.parameters is None:
            return
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not any(re.search(self.parameters, name) for name in named):
            raise InputError(
                f"phases.{world.name}.parameters={self.parameters}: is found in no trained parameter's name ({len(named)}: "
                f"{', '.join(list(named)[:4])} ...)"
            )
        for name, parameter in named.items():
            parameter.requires_grad_(bool(re.search(self.parameters, name)))

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

        from dsel.training.checkpoint import TRAINING, load_model, load_names, load_training

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
        if not (folder / TRAINING).is_file():
            raise InputError(
                f"phases.{world.name}: start=resume: the checkpoint was trained with lora, whose adapters and optimizer state are gone; "
                f"set phases.{world.name}.start=weights"
            )
        step, optimizer_state = load_training(folder)
        model = load_model(folder)
        if not optimizer_state["param_groups"]:  # no step was taken yet
            return model, step, None
        self._refuse_others(load_names(folder), model, world)
        return model, step, optimizer_state

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
