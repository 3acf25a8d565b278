"""Projected gradients of every unit of a pool, as an artifact that targets, subsets and estimators share."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from safetensors.numpy import load_file, save_file

from dsel.artifact import Store, fingerprint, read_record
from dsel.error import InputError
from dsel.functional.flops import WITH_BACKWARD, num_parameters
from dsel.pool import ID, ROW, TASK, TOKENS, Pool
from dsel.progress import Progress, progress
from dsel.subset import Work

if TYPE_CHECKING:
    import torch

    from dsel.context import Context
    from dsel.functional.projection import Projection
    from dsel.protocol import Objective

log = logging.getLogger("dsel")

KINDS = ("sparse", "rademacher", "gaussian")
FILE = "features.safetensors"
TOKENS_PER_BATCH = 2048


@dataclass(frozen=True)
class Features:
    """`values` (unit, dim), the projected gradient of each unit's log odds, and `outputs` (unit,), the log odds (arXiv 2409.19458)."""

    values: npt.NDArray[np.float32]
    outputs: npt.NDArray[np.float64]
    work: Work


@dataclass(frozen=True)
class ByGradients:
    """What looks at gradients says how they are projected: to `dim` dimensions, by which `kind` of map and from which `seed`. Who says the
    same shares the features."""

    dim: int = 256
    kind: str = "sparse"
    num_nonzeros: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"estimator.kind={self.kind!r}: must be one of {', '.join(KINDS)}")
        if self.dim < 1:
            raise InputError(f"estimator.dim={self.dim}: must be at least 1")

    @property
    def projection(self) -> Projection:
        """The map of gradients to `dim` dimensions."""
        from dsel.functional.projection import Projection

        return Projection(self.kind, self.dim, self.seed, self.num_nonzeros)

    def look(self, source: Pool, target: Pool, context: Context) -> tuple[Features, npt.NDArray[np.int64], Features]:
        """Of the source's units, task by task; the number of each one's task (unit,); of the target's units."""
        tasks = list(source.by_task().values())
        numbers = np.repeat(np.arange(len(tasks)), [len(task) for task in tasks])
        return context.features(tasks, self.projection), numbers, context.features([target], self.projection)


@dataclass(frozen=True)
class Origin:
    """What features hang on, besides the units."""

    checkpoint: str  # the name of its folder, in which the fingerprint of all that made it stands, and of this code
    objective: str
    context: int
    projection: str

    def check(self, record: dict[str, Any], folder: Path) -> None:
        """Errors: features of something else; the first field that differs is named."""
        for name, value in asdict(self).items():
            if record.get(name) != value:
                raise InputError(f"{folder}: features of another {name}: {record.get(name)!r}, not {value!r}; delete that folder")


def make_features(
    pools: Sequence[Pool],
    load: Callable[[], torch.nn.Module],
    objective: Objective,
    context: int,
    projection: Projection,
    checkpoint: str,
    store: Store,
) -> Features:
    """Features of all units of `pools` (tokenized), one after the other; each pool's is an artifact, so what was interrupted goes on.

    Errors: a gradient that is not finite (which unit), saved features of another model or projection (which field).
    """
    origin = Origin(checkpoint, type(objective).__name__, context, repr(projection))
    model: list[torch.nn.Module] = []  # loaded for the first pool of which nothing is on disk
    found = []
    with progress("features", sum(len(pool) for pool in pools), "units") as bar:
        for pool in pools:
            key = fingerprint(asdict(origin), pool.fingerprint)

            def build(folder: Path, pool: Pool = pool) -> dict[str, Any]:
                model[:] = model or [load()]
                return asdict(origin) | _write(model[0], objective, context, projection, pool, bar, folder)

            folder, _ = store.get("features", key, build)
            found.append(_load(folder, origin))
    _warn_of_cuts(pools, objective, context)
    return Features(
        np.concatenate([each.values for each in found]),
        np.concatenate([each.outputs for each in found]),
        sum((each.work for each in found), Work()),
    )


def _write(
    model: torch.nn.Module, objective: Objective, context: int, projection: Projection, pool: Pool, bar: Progress, folder: Path
) -> dict[str, Any]:
    from dsel.functional.example_gradients import project_gradients

    started = time.monotonic()
    device = next(model.parameters()).device
    values, outputs = np.zeros((len(pool), projection.dim), np.float32), np.zeros(len(pool))
    counts, tokens = np.zeros(len(pool)), 0
    for unit, batch in objective.rows(pool.table, context, TOKENS_PER_BATCH):
        f, gradients = project_gradients(model, objective, batch.to(device), projection)
        weights = objective.predicted(batch).sum(1).cpu().numpy().astype(np.float64)  # a long unit may be several rows
        np.add.at(values, unit, gradients.float().cpu().numpy() * weights[:, None].astype(np.float32))
        np.add.at(outputs, unit, f.double().cpu().numpy() * weights)
        np.add.at(counts, unit, weights)
        tokens += int(weights.sum())
        bar.advance(len(unit))
    counts = np.maximum(counts, 1)
    values /= counts[:, None].astype(np.float32)
    outputs /= counts
    _check_finite(values, outputs, pool)
    save_file({"values": values, "outputs": outputs}, folder / FILE)
    # a forward pass, and a backward one with each unit's own weight gradients
    flops = WITH_BACKWARD * num_parameters(model) * count_tokens(pool, objective)
    return {"pool": pool.fingerprint, "units": len(pool), "tokens": tokens, "flops": flops, "seconds": time.monotonic() - started}


def count_tokens(pool: Pool, objective: Objective) -> int:
    """Tokens that the model reads or predicts, of all units."""
    return sum(int(pc.sum(pc.list_value_length(pool.table[name])).as_py() or 0) for name in objective.sides)


def _load(folder: Path, origin: Origin) -> Features:
    record = read_record(folder)
    origin.check(record, folder)
    if not (folder / FILE).is_file():
        raise InputError(f"{folder}: {FILE} is missing; delete that folder, and its features are made again")
    arrays = load_file(folder / FILE)
    if len(arrays["outputs"]) != record["units"] or arrays["values"].shape[0] != record["units"]:
        raise InputError(f"{folder}: features of {len(arrays['outputs'])} units, not of {record['units']}; delete that folder")
    return Features(arrays["values"], arrays["outputs"], Work(record["seconds"], record["flops"]))


def _check_finite(values: npt.NDArray[np.float32], outputs: npt.NDArray[np.float64], pool: Pool) -> None:
    bad = np.flatnonzero(~(np.isfinite(values).all(axis=1) & np.isfinite(outputs)))
    if len(bad):
        row = pool.table.slice(int(bad[0]), 1)
        task = f"task {row[TASK][0].as_py()}, " if TASK in row.column_names else ""
        raise InputError(
            f"features: the gradient of {task}row {row[ROW][0].as_py()}, id {row[ID][0].as_py()!r} is not finite ({len(bad)} such units in "
            f"{pool.name}); leave it out, or train the model before with a lower optimizer.lr"
        )


def _warn_of_cuts(pools: Sequence[Pool], objective: Objective, context: int) -> None:
    for pool in pools:
        if TOKENS in pool.table.column_names and (cut := objective.num_cut(pool.table, context)):
            log.warning(
                "features: %d of %d units of %s are longer than model.context=%d tokens, and were cut", cut, len(pool), pool.name, context
            )
