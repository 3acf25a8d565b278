"""Inner products of examples' gradients without the gradients: from each layer's inputs and the gradients at its outputs.

One backward pass for train and clean examples together leaves the gradients by weights out; products come layer by layer; then
the gradient of the weighted loss is made once, of the examples that have a weight. (arXiv 2406.11011, section 4.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch

from dsel.error import InputError
from dsel.functional.alignment import Direction, trainable
from dsel.functional.ghost_layers import Layer, layer_for

Which = slice | torch.Tensor


@dataclass
class Call:
    """One call of a layer: its input (example, ..., in) and, after the backward pass, the gradient at its output (example, ..., out)."""

    layer: Layer
    names: Mapping[str, str]  # from the layer's own name of a parameter to the model's
    given: torch.Tensor
    at_output: torch.Tensor | None = None

    def rows(self, which: Which) -> tuple[torch.Tensor, torch.Tensor]:
        """Of these examples."""
        assert self.at_output is not None
        return self.given[which], self.at_output[which]


class Tape:
    """Records what products need. Inside of `with`, run the model on `num_examples` examples, the first dimension of all that layers
    take and give, and call `backward`. No parameter gets a gradient from that.

    Errors: a layer whose parameters' part in an example cannot be told from its input and output; it is named.
    """

    def __init__(self, model: torch.nn.Module, num_examples: int) -> None:
        self.model, self.num_examples = model, num_examples
        self.parameters = trainable(model)
        self.calls: list[Call] = []
        self._hooks: list[Any] = []

    def __enter__(self) -> Tape:
        layers = [(layer_for(module, place, names), place, module, names) for place, module, names in _layers(self.model, self.parameters)]
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

    def backward(self, loss: torch.Tensor) -> None:
        """Of a sum over examples of losses that have nothing to do with each other. Errors: a parameter was used outside of its layer."""
        torch.autograd.backward(loss)
        missed = [name for name, p in self.parameters.items() if p.grad is not None]  # within their layers they get none
        if missed:
            raise InputError(
                f"parameter {missed[0]} ({len(missed) - 1} more): is used outside of a layer of its own, so the ghost product cannot be "
                "had; set online.method=jvp"
            )
        self.calls = [call for call in self.calls if call.at_output is not None]

    def gradient(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        """The gradient by name of the sum of losses, each example's by its weight (example,). One of weight 0 costs nothing."""
        which = torch.nonzero(weights).flatten()
        if len(which) == 0:
            return {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        first, last = int(which[0]), int(which[-1])
        rows = slice(first, last + 1) if last - first == len(which) - 1 else which  # a copy of rows only where some are left out
        values = weights[which]
        is_mask = bool((values == values[0]).all())  # then the sum is scaled instead of each row
        found = _gradient(self.calls, rows, None if is_mask else values)
        if is_mask:
            found = {name: value.mul_(values[0]) for name, value in found.items()}
        return found | {name: torch.zeros_like(p) for name, p in self.parameters.items() if name not in found}

    def products(self, direction: Direction, num: int) -> torch.Tensor:
        """<gradient of an example's loss, direction> (num,) for the first `num` examples."""
        return _sum(_products(call, direction, slice(0, num)) for call in self.calls)

    def align(self, num: int) -> torch.Tensor:
        """<gradient of an example's loss, gradient of the sum over the clean examples> (num,) for the first `num` examples; the clean
        ones are the others. Layer by layer by pairs of tokens or by that gradient, whichever takes fewer operations."""
        which, clean = slice(0, num), slice(num, None)
        found, rest = self._each(lambda call: call.layer.pairs(call.rows(which), call.rows(clean)))
        direction = _gradient(rest, clean)
        return _sum([*found, *(_products(call, direction, which) for call in rest)])

    def norms(self, num: int) -> torch.Tensor:
        """The norm of an example's gradient (num,) for the first `num` examples."""
        found, rest = self._each(lambda call: call.layer.squares(*call.rows(slice(0, num))))
        for example in range(num if rest else 0):  # tied weights, and layers of unknown kind
            own = _gradient(rest, slice(example, example + 1))
            found.append(torch.nn.functional.one_hot(torch.tensor(example), num) * sum(part.square().sum() for part in own.values()))
        return _sum(found).sqrt()

    def _each(self, work: Callable[[Call], torch.Tensor | None]) -> tuple[list[torch.Tensor], list[Call]]:
        """What `work` gives for each call, and the calls for which it gives nothing or whose weights stand in others as well."""
        uses = Counter(name for call in self.calls for name in call.names.values())
        found, rest = [], []
        for call in self.calls:
            is_alone = all(uses[name] == 1 for name in call.names.values())  # else products between calls would be missed
            value = work(call) if is_alone else None
            if value is None:
                rest.append(call)
            else:
                found.append(value)
        return found, rest

    def _recorder(self, layer: Layer, names: Mapping[str, str], place: str) -> Any:
        def record(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            for name in names:
                getattr(module, name).requires_grad_(True)
            given = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
            if len(given) != 1 or not isinstance(output, torch.Tensor):
                raise _unsupported(place, module, "it does not map one tensor to one")
            if len(given[0]) == len(output) == 1 < self.num_examples:  # the same for all, as positions are
                given[0] = given[0].expand(self.num_examples, *given[0].shape[1:])
                output = output.expand(self.num_examples, *output.shape[1:])
            if len(given[0]) != self.num_examples or len(output) != self.num_examples:
                raise _unsupported(place, module, f"the first of its input's dimensions {tuple(given[0].shape)} is not the examples")
            if not torch.is_grad_enabled():  # a pass that a checkpoint will do again
                return output
            if not output.requires_grad:  # nothing before it is trained: the backward pass ends here
                output = output.detach().requires_grad_().clone()
            call = Call(layer, names, given[0].detach())
            output.register_hook(lambda gradient: setattr(call, "at_output", gradient.detach()))
            self.calls.append(call)
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


def _gradient(calls: Sequence[Call], which: Which, weights: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
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


def _products(call: Call, direction: Direction, which: Which) -> torch.Tensor:
    return call.layer.products(*call.rows(which), {mine: direction[name] for mine, name in call.names.items()})


def _sum(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(parts)).sum(0)


def _unsupported(place: str, module: torch.nn.Module, why: str) -> InputError:
    return InputError(f"layer {place} ({type(module).__name__}): {why}, so the ghost product cannot be had; set online.method=jvp")
