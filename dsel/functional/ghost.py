"""Inner products of examples' gradients without the gradients: from each layer's inputs and the gradients at its outputs.

One backward pass for train and clean examples together leaves the gradients by weights out; products come layer by layer; then
the gradient of the weighted loss is made once, of the examples that have a weight. (arXiv 2406.11011, section 4.)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import torch

from dsel.error import InputError
from dsel.functional.alignment import Direction, trainable
from dsel.functional.ghost_calls import ALL, Batch, Call, Part, Which, parts_by_name
from dsel.functional.ghost_factors import Factors
from dsel.functional.ghost_layers import Layer, layer_for

Kind = TypeVar("Kind", Factors, torch.Tensor)


class Tape:
    """Records what products need. Inside of `with`, for each batch call `begin`, run the model on it, and call `backward`; no parameter
    gets a gradient from that. Examples are the first dimension of all that layers take and give.

    Errors: a layer whose parameters' part in an example cannot be told from its input and output; it is named.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self.model, self.parameters = model, trainable(model)
        self.batches: list[Batch] = []
        self._hooks: list[Any] = []

    def __enter__(self) -> Tape:
        layers = [(layer_for(module, place), place, module, names) for place, module, names in _layers(self.model, self.parameters)]
        for layer, place, module, names in layers:
            self._hooks.append(module.register_forward_pre_hook(_freeze))
            self._hooks.append(module.register_forward_hook(self._recorder(layer, names, place), with_kwargs=True))
        self._before = {name: p.grad for name, p in self.parameters.items()}
        for parameter in self.parameters.values():
            parameter.grad = None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for hook in self._hooks:
            hook.remove()
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(True)
            parameter.grad = self._before[name]

    def begin(self, num_examples: int) -> None:
        """What the model does from now on is on a batch of so many examples; the first has number 0."""
        self.batches.append(Batch(num_examples))

    def backward(self, loss: torch.Tensor, gradient: torch.Tensor | None = None) -> None:
        """Of a sum over the batch's examples of losses that have nothing to do with each other, or from where the `gradient` of such a sum
        is known. Errors: a parameter was used outside of its layer."""
        torch.autograd.backward(loss, gradient)
        missed = [name for name, p in self.parameters.items() if p.grad is not None]  # within their layers they get none
        if missed:
            raise InputError(
                f"parameter {missed[0]} ({len(missed) - 1} more): is used outside of a layer of its own, so the ghost product cannot be "
                "had; set online.method=jvp"
            )
        batch = self.batches[-1]
        batch.calls = [call for call in batch.calls if call.at_output is not None]

    def gradient(self, batch: int = 0, weights: torch.Tensor | None = None, only: Collection[str] | None = None) -> dict[str, torch.Tensor]:
        """The gradient of the sum of a batch's losses, each times its weight (example,), by name of the parameters `only` (None: of all).
        An example of weight 0 costs nothing."""
        wanted = [name for name in self.parameters if only is None or name in only]
        rows, scale, values = _kept(weights)
        if isinstance(rows, torch.Tensor) and len(rows) == 0:
            return {name: torch.zeros_like(self.parameters[name]) for name in wanted}
        found = _gradient(self.batches[batch].over(only), rows, values)
        if scale is not None:
            found = {name: value.mul_(scale) for name, value in found.items()}
        return found | {name: torch.zeros_like(self.parameters[name]) for name in wanted if name not in found}

    def products(self, direction: Direction, batch: int = 0) -> torch.Tensor:
        """<gradient of an example's loss, direction> (example,), over the parameters in `direction`."""
        return _sum(_products(call, direction) for call in self.batches[batch].over(direction))

    def align(self, batch: int = 0, clean: int = 1, only: Collection[str] | None = None) -> torch.Tensor:
        """<gradient of an example's loss, gradient of the sum over the clean batch> (example,), over the parameters `only` (None: all).
        Layer by layer by pairs of tokens or by that gradient, whichever takes fewer operations."""
        theirs = parts_by_name(self.batches[clean].over(only))
        mine = parts_by_name(self.batches[batch].over(only)).items()
        found, rest = _told({name: _pairs(own, theirs.get(name, []), self.parameters[name]) for name, own in mine})
        return _sum([*found, self.products(self.gradient(clean, only=rest), batch)] if rest else found)

    def norms(self, batch: int = 0, only: Collection[str] | None = None) -> torch.Tensor:
        """The norm of an example's gradient (example,)."""
        found, rest = _told({name: _squares(own) for name, own in parts_by_name(self.batches[batch].over(only)).items()})
        found += [own.flatten(1).square().sum(1) for _, own in self.example_gradients(batch, rest)]  # layers of unknown kind
        return _sum(found).sqrt()

    def example_gradients(self, batch: int = 0, only: Collection[str] | None = None) -> Iterator[tuple[str, torch.Tensor]]:
        """Each example's gradient (example, *shape) by the parameters `only` (None: all) that have a part in it, one parameter at a time:
        memory holds no more."""
        uses = self.batches[batch].by_parameter(only)
        for name in (name for name in self.parameters if name in uses):
            (call, own), *others = uses[name]
            found = call.per_example(own)
            for other, theirs in others:
                found = found + other.per_example(theirs)
            yield name, found

    def _recorder(self, layer: Layer, names: Mapping[str, str], place: str) -> Any:
        def record(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            for name in names:
                getattr(module, name).requires_grad_(True)
            batch = self.batches[-1]
            given = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
            if len(given) != 1 or not isinstance(output, torch.Tensor):
                raise _unsupported(place, module, "it does not map one tensor to one")
            if len(given[0]) == len(output) == 1 < batch.num_examples:  # the same for all, as positions are
                given[0] = given[0].expand(batch.num_examples, *given[0].shape[1:])
                output = output.expand(batch.num_examples, *output.shape[1:])
            if len(given[0]) != batch.num_examples or len(output) != batch.num_examples:
                raise _unsupported(place, module, f"the first of its input's dimensions {tuple(given[0].shape)} is not the examples")
            if not torch.is_grad_enabled():  # a pass that a checkpoint will do again
                return output
            if not output.requires_grad:  # nothing before it is trained: the backward pass ends here
                output = output.detach().requires_grad_().clone()
            call = Call(layer, names, given[0].detach())
            output.register_hook(lambda gradient: setattr(call, "at_output", gradient.detach()))
            batch.calls.append(call)
            return output

        return record


def _layers(model: torch.nn.Module, parameters: Mapping[str, torch.nn.Parameter]) -> Iterator[tuple[str, torch.nn.Module, dict[str, str]]]:
    """Layers without layers of their own: place, module, and the model's names for the parameters that it holds."""
    by_identity = {id(p): name for name, p in parameters.items()}
    for place, module in model.named_modules():
        own = {name: by_identity[id(p)] for name, p in module._parameters.items() if p is not None and id(p) in by_identity}
        if own and not any(True for _ in module.children()):
            yield place, module, own


def _freeze(module: torch.nn.Module, args: Any) -> None:
    for parameter in module.parameters(recurse=False):
        parameter.requires_grad_(False)


def _kept(weights: torch.Tensor | None) -> tuple[Which, torch.Tensor | None, torch.Tensor | None]:
    """Of weights (example,): the rows that have one, and the factor on their sum or, where they differ, those of each (row,)."""
    if weights is None:
        return ALL, None, None
    which = torch.nonzero(weights).flatten()
    if len(which) == 0:
        return which, None, None
    values = weights[which]
    rows = ALL if len(which) == len(weights) else which  # a copy of rows only where some are left out
    return (rows, values[0], None) if bool((values == values[0]).all()) else (rows, None, values)


def _told(values: Mapping[str, torch.Tensor | None]) -> tuple[list[torch.Tensor], list[str]]:
    """The values that there are, and the names of those that there are not."""
    return [value for value in values.values() if value is not None], [name for name, value in values.items() if value is None]


def _pairs(mine: Sequence[Part], clean: Sequence[Part], parameter: torch.Tensor) -> torch.Tensor | None:
    """<an example's gradient by a parameter, the sum of the clean ones'> (example,) without that sum; None where there is no way, or where
    pairs of tokens take more operations than the sum does."""
    vectors, others = _all(torch.Tensor, mine), _all(torch.Tensor, clean)
    if vectors and others:
        direction = _sum(other.sum((0, 1)) for other in others)
        return _sum(vector.sum(1) @ direction for vector in vectors)
    matrices, beside = _all(Factors, mine), _all(Factors, clean)
    if not matrices or not beside:
        return None
    pairs = [(one.flat(), other.flat()) for one in matrices for other in beside]
    by_sum = sum(part.num_tokens for part in (*matrices, *beside) if part.is_dense) * parameter.numel()
    if sum(one.num_products(other) for one, other in pairs) > by_sum:
        return None
    return _sum(one.times(other).sum(2) for one, other in pairs).view(len(matrices[0].columns), -1).sum(1)


def _squares(mine: Sequence[Part]) -> torch.Tensor | None:
    """Squared norm of each example's gradient by a parameter (example,); None where there is no way but to make it."""
    vectors, matrices = _all(torch.Tensor, mine), _all(Factors, mine)
    if vectors:
        return _sum(vector.sum(1) for vector in vectors).square().sum(1)
    return _sum(one.times(other).sum((1, 2)) for one in matrices for other in matrices) if matrices else None


def _all(kind: type[Kind], parts: Sequence[Part]) -> list[Kind]:
    """The parts, if all are of this kind; else none."""
    found = [part for part in parts if isinstance(part, kind)]
    return found if len(found) == len(parts) else []


def _gradient(calls: Sequence[Call], which: Which = ALL, weights: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """Of the sum of the losses of the examples `which`, each times its weight."""
    found: dict[str, torch.Tensor] = {}
    for call in calls:
        given, at_output = call.rows(which)
        if weights is not None:
            at_output = at_output * weights.to(at_output.dtype).view(-1, *[1] * (at_output.ndim - 1))
        for own, part in call.layer.gradient(given, at_output).items():
            if own in call.names:
                name = call.names[own]
                found[name] = found[name].add_(part) if name in found else part
    return found


def _products(call: Call, direction: Direction) -> torch.Tensor:
    return call.layer.products(*call.rows(), {mine: direction[name] for mine, name in call.names.items()})


def _sum(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(parts)).sum(0)


def _unsupported(place: str, module: torch.nn.Module, why: str) -> InputError:
    return InputError(f"layer {place} ({type(module).__name__}): {why}, so the ghost product cannot be had; set online.method=jvp")
