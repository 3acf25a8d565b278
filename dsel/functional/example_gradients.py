"""Gradients of every example's log odds, projected to few dimensions as they are made: the features of arXiv 2409.19458."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch.utils._pytree import tree_map

from dsel.error import InputError
from dsel.functional.alignment import trainable
from dsel.functional.ghost import Tape
from dsel.functional.ghost_calls import Call
from dsel.functional.ghost_factors import Factors
from dsel.functional.log_odds import log_odds
from dsel.functional.projection import Projection

if TYPE_CHECKING:
    from dsel.protocol import Objective

log = logging.getLogger("dsel")

METHODS = ("auto", "ghost", "loop")
MAX_BYTES = 1 << 24  # of gradients at a time: what was just made is still in the cache when it is projected
_REFUSED: WeakKeyDictionary[torch.nn.Module, dict[tuple[str, ...], str]] = WeakKeyDictionary()  # by trained parameters: why, or ""


def project_gradients(
    model: torch.nn.Module,
    objective: Objective,
    batch: Any,
    projection: Projection,
    only: Collection[str] | None = None,
    max_bytes: int = MAX_BYTES,
    method: str = "auto",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log odds of the batch's examples (example,), and P^T times their gradients (example, dim) by the trained parameters, or by those in
    `only`: one after the other as `trainable` gives them, P's rows are numbered. The model is left as it was.

    "ghost" makes them from one backward pass without weight gradients, in pieces of `max_bytes` (or a row of one example's matrix, if
    that is larger); "loop" takes a backward pass for each example; "auto" (see `method_for`) the ghost where it works.
    Errors: no parameter is trained, a layer that the ghost method cannot do.
    """
    if method not in METHODS:
        raise InputError(f"method={method!r}: must be one of {', '.join(METHODS)}")
    with torch.enable_grad(), _only_trained(model, only):
        if method == "loop" or (method == "auto" and _refusal(model, objective, batch)):
            return _by_loop(model, objective, batch, projection)
        try:
            if refused := _refusal(model, objective, batch):
                raise InputError(refused)
            return _by_ghost(model, objective, batch, projection, max_bytes)
        except InputError as error:
            if method == "ghost":
                raise InputError(f"{str(error).partition('; ')[0]}; set method=loop") from error
            _refuse(model, error)
        return _by_loop(model, objective, batch, projection)


def method_for(model: torch.nn.Module, objective: Objective, batch: Any, only: Collection[str] | None = None) -> str:
    """Which method "auto" is: tried with one example of the batch, once for a model and what is trained of it."""
    with torch.enable_grad(), _only_trained(model, only):
        return "loop" if _refusal(model, objective, batch) else "ghost"


def offsets(model: torch.nn.Module, only: Collection[str] | None = None) -> dict[str, int]:
    """The number of each parameter's first entry among all that are trained, as the projection sees them."""
    found, end = {}, 0
    for name, parameter in trainable(model, only).items():
        found[name] = end
        end += parameter.numel()
    return found


def lift(
    model: torch.nn.Module, projection: Projection, weights: torch.Tensor, only: Collection[str] | None = None
) -> dict[str, torch.Tensor]:
    """P times weights (dim,), by name of a parameter: where the features' first-order model moves to."""
    starts = offsets(model, only)
    with torch.no_grad():
        return {
            name: projection.lift(weights[None].to(p.device), starts[name], p.numel()).view(p.shape).to(p.dtype)
            for name, p in trainable(model, only).items()
        }


@contextmanager
def _only_trained(model: torch.nn.Module, only: Collection[str] | None) -> Iterator[None]:
    every, kept = trainable(model), trainable(model, only)
    if not kept:
        raise InputError(f"gradients: none of the model's {len(list(model.parameters()))} parameters is trained; unfreeze some")
    others = [p for name, p in every.items() if name not in kept]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)


def _refusal(model: torch.nn.Module, objective: Objective, batch: Any) -> str:
    """Why the ghost method cannot be had, or "". One example decides: of several, a layer's input might by chance have as many rows."""
    known, trained = _REFUSED.setdefault(model, {}), tuple(trainable(model))
    if trained not in known:
        try:
            _record(model, objective, _example(batch, 0))
            known[trained] = ""
        except InputError as error:
            _refuse(model, error)
    return known[trained]


def _refuse(model: torch.nn.Module, error: InputError) -> None:
    _REFUSED[model][tuple(trainable(model))] = str(error)
    log.info("gradients: one backward pass an example, since %s", str(error).partition(", so ")[0])


def _example(batch: Any, number: int) -> Any:
    """A batch of that one only."""
    return tree_map(lambda part: part[number : number + 1] if isinstance(part, torch.Tensor) else part, batch)


def _outputs(model: torch.nn.Module, objective: Objective, batch: Any) -> torch.Tensor:
    return log_odds(objective.token_losses(model, batch), objective.predicted(batch))


def _record(model: torch.nn.Module, objective: Objective, batch: Any) -> tuple[torch.Tensor, Tape]:
    with Tape(model) as tape:
        tape.begin(len(objective.predicted(batch)))
        outputs = _outputs(model, objective, batch)
        tape.backward(outputs.sum())
    return outputs.detach(), tape


def _by_loop(model: torch.nn.Module, objective: Objective, batch: Any, projection: Projection) -> tuple[torch.Tensor, torch.Tensor]:
    parameters, starts = trainable(model), offsets(model)
    outputs, features = [], []
    for number in range(len(objective.predicted(batch))):
        output = _outputs(model, objective, _example(batch, number))
        gradients = torch.autograd.grad(output.sum(), list(parameters.values()), allow_unused=True)
        outputs.append(output.detach())
        features.append(output.new_zeros(1, projection.dim))
        for name, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                projection.add(features[-1], gradient.reshape(1, -1), starts[name])
    return torch.cat(outputs), torch.cat(features)


def _by_ghost(
    model: torch.nn.Module, objective: Objective, batch: Any, projection: Projection, max_bytes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    outputs, tape = _record(model, objective, batch)
    features, starts = outputs.new_zeros(len(outputs), projection.dim), offsets(model)
    room = outputs.new_empty(max(1, max_bytes // outputs.element_size()))
    with torch.no_grad():
        uses = tape.batches[0].by_parameter(None)
        for name in (name for name in starts if name in uses):
            matrices = []
            for call, own in uses[name]:
                part = call.parts().get(own)
                if isinstance(part, Factors):
                    matrices.append(part)
                elif part is not None:
                    projection.add(features, part.sum(1), starts[name])
                else:
                    _add_unknown(features, call, own, tape.parameters[name].numel(), projection, starts[name], len(room))
            _add_matrices(features, matrices, len(tape.parameters[name]), projection, starts[name], room)
    return outputs, features


def _add_matrices(
    out: torch.Tensor, parts: Sequence[Factors], num_rows: int, projection: Projection, offset: int, room: torch.Tensor
) -> None:
    """Of one parameter: what tied weights add up to is projected once, or apart where an example has only some rows."""
    if projection.is_sparse:
        for part in parts:
            if not part.is_dense:
                projection.add_rows(out, part.rows, part.columns, offset)
        parts = [part for part in parts if part.is_dense]
    if not parts:
        return
    columns = parts[0].columns
    width = columns.shape[2]
    room = room if len(room) >= width and room.dtype == columns.dtype else columns.new_empty(max(width, len(room)))
    some = min(len(out), len(room) // width)
    rows = min(num_rows, len(room) // (some * width))
    for first in range(0, len(out), some):
        examples = slice(first, first + some)
        here = [part.examples(examples) for part in parts]
        for start in range(0, num_rows, rows):
            stop = min(start + rows, num_rows)
            values = here[0].between(start, stop, room)
            for part in here[1:]:
                values += part.between(start, stop)
            projection.add(out[examples], values.flatten(1), offset + start * width)


def _add_unknown(out: torch.Tensor, call: Call, own: str, size: int, projection: Projection, offset: int, most: int) -> None:
    some = max(1, most // size)
    for first in range(0, len(out), some):
        examples = slice(first, first + some)
        projection.add(out[examples], call.per_example(own, examples).flatten(1), offset)
