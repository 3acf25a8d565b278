"""Approximate: how far from the newest model its outputs are still linear in the parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dsel.context import World
from dsel.error import InputError
from dsel.functional.flops import num_parameters
from dsel.phase.fine_tune import fine_tuned_model
from dsel.phase.train import Train
from dsel.pool import Pool
from dsel.progress import progress
from dsel.state import State

if TYPE_CHECKING:
    import torch

    from dsel.functional.linearity import Linearity, Outputs

METRICS, ERRORS = "metrics.json", "approximation.parquet"
DIRECTIONS = ("tuned", "gaussian")


@dataclass(frozen=True)
class Approximate:
    """Moves the newest model by shares `distances` of its parameters' norm along `num_directions` directions, and measures what becomes of
    the log odds of at most `num_units` units of the source: mean squared relative errors of the first-order approximation and of none, of
    which `first_order_error_<distance>` and `zero_order_error_<distance>` are the medians over directions. (arXiv 2409.19458)

    A direction is where fine-tuning goes on a random share `share` of the tasks, as `tune` says ("tuned"; how far that is,
    `tuned_distance`), or random ("gaussian").
    """

    tune: Train
    distances: Sequence[float] = (0.02, 0.04, 0.06, 0.08, 0.1)
    num_directions: int = 5
    direction: str = "tuned"
    share: float = 0.35
    num_units: int = 256

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise InputError(f"phase approximate: direction={self.direction!r} must be one of {', '.join(DIRECTIONS)}")
        if not self.distances or min(self.distances) <= 0:
            raise InputError(f"phase approximate: distances={list(self.distances)}: must be numbers above 0")
        for key in ("num_directions", "num_units"):
            if getattr(self, key) < 1:
                raise InputError(f"phase approximate: {key}={getattr(self, key)}: must be at least 1")
        if not 0 < self.share <= 1:
            raise InputError(f"phase approximate: share={self.share}: must be above 0 and at most 1")

    needs_checkpoint = True
    trains = False

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write metrics.json and approximation.parquet: a row for each direction and distance."""
        import polars as pl

        from dsel.functional.gradients import norm, unfreeze
        from dsel.functional.linearity import linearity_errors
        from dsel.training.checkpoint import load_model

        start = state.checkpoint_of(None)
        if start is None:
            raise InputError(f"phases.{world.name}: there is no model to move; put a train phase before it in pipeline")
        model = unfreeze(load_model(start))
        source = world.tokenized(world.corpus.source)
        outputs = _outputs_on(source, world, self.num_units)
        rows, flops, lengths = [], 0.0, list[float]()
        with progress(world.name, self.num_directions, "directions") as bar:
            for number in range(self.num_directions):
                direction, spent = self._direction(number, model, source, start, world)
                flops += spent
                lengths.append(norm(direction.values()) / norm(model.parameters()))
                rows += [_row(number, each) for each in linearity_errors(model, outputs, direction, self.distances)]
                bar.advance(1)
        frame = pl.DataFrame(rows)
        frame.write_parquet(folder / ERRORS)
        medians = frame.group_by("distance", maintain_order=True).median()
        metrics = {f"{name}_error_{row['distance']:g}": row[name] for row in medians.to_dicts() for name in ("first_order", "zero_order")}
        metrics |= {"tuned_distance": float(np.mean(lengths))} if self.direction == "tuned" else {}
        (folder / METRICS).write_text(json.dumps(metrics, indent=1), encoding="utf-8")
        return {"flops": flops, "parameters": num_parameters(model)}

    def read(self, state: State, world: World, folder: Path) -> State:
        """The state with the metrics."""
        return state.with_metrics(**json.loads((folder / METRICS).read_text(encoding="utf-8")))

    def _direction(
        self, number: int, model: torch.nn.Module, source: Pool, start: Path, world: World
    ) -> tuple[dict[str, torch.Tensor], float]:
        """By name of a parameter, and the floating-point operations that it took."""
        import torch

        from dsel.functional.alignment import trainable

        parameters = trainable(model)
        if self.direction == "gaussian":
            generator = torch.Generator().manual_seed(world.phase_seed(f"direction {number}"))
            return {name: torch.randn(p.shape, generator=generator) for name, p in parameters.items()}, 0.0
        names, numbers = source.tasks()
        rng = np.random.default_rng(world.phase_seed(f"subset {number}"))
        chosen = rng.permutation(len(names))[: max(1, round(self.share * len(names)))]
        subset = source.take(np.flatnonzero(np.isin(numbers, chosen)), "subset")
        tuned, flops = fine_tuned_model(self.tune, start, replace(world, name=f"{world.name} {number}"), subset)
        there = dict(trainable(tuned))
        return {name: (there[name] - p).detach() for name, p in parameters.items()}, flops


def _row(number: int, error: Linearity) -> dict[str, float]:
    return {"direction": number, "distance": error.distance, "first_order": error.with_gradient, "zero_order": error.without_gradient}


def _outputs_on(source: Pool, world: World, num_units: int) -> Outputs:
    """The log odds (unit,) of some units, drawn at random, as a function of the model."""
    import torch

    from dsel.features import TOKENS_PER_BATCH
    from dsel.functional.log_odds import log_odds

    assert world.model is not None
    some = np.random.default_rng(world.phase_seed("units")).permutation(len(source))[:num_units]
    batches = [batch for _, batch in world.objective.rows(source.take(some).table, world.model.context, TOKENS_PER_BATCH)]

    def outputs(model: torch.nn.Module) -> torch.Tensor:
        return torch.cat([log_odds(world.objective.token_losses(model, batch), world.objective.predicted(batch)) for batch in batches])

    return outputs
