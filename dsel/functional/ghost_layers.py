"""What a layer's parameters have to do with an example, given the layer's input and the gradient at its output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F

from dsel.error import InputError
from dsel.functional.ghost_factors import Factors

Own = Mapping[str, torch.Tensor]  # by the layer's name of a parameter


class Layer(Protocol):
    """`given` (example, ..., in), `at_output` (example, ..., out)."""

    def gradient(self, given: torch.Tensor, at_output: torch.Tensor) -> dict[str, torch.Tensor]:
        """Of the sum over all examples, by parameter."""
        ...

    def products(self, given: torch.Tensor, at_output: torch.Tensor, direction: Own) -> torch.Tensor:
        """<an example's gradient, direction> (example,), over the parameters in `direction`."""
        ...

    def factors(self, given: torch.Tensor, at_output: torch.Tensor) -> dict[str, Factors]:
        """Of the parameters that are matrices."""
        ...

    def vectors(self, given: torch.Tensor, at_output: torch.Tensor) -> dict[str, torch.Tensor]:
        """Gradients by the tokens (example, token, size) of the parameters that are vectors."""
        ...

    def per_example(self, given: torch.Tensor, at_output: torch.Tensor) -> dict[str, torch.Tensor]:
        """Each example's gradient (example, *shape), by parameter."""
        ...


class _Summed:
    """A layer whose gradients are known as sums over tokens, all of them."""

    def per_example(self: Layer, given: torch.Tensor, at_output: torch.Tensor) -> dict[str, torch.Tensor]:
        matrices, vectors = self.factors(given, at_output), self.vectors(given, at_output)
        return {name: part.each() for name, part in matrices.items()} | {name: part.sum(1) for name, part in vectors.items()}


@dataclass(frozen=True)
class Linear(_Summed):
    """y = x W^T + b; `transposed` as in GPT-2's Conv1D: y = x W + b."""

    transposed: bool = False

    def gradient(self, given: torch.Tensor, at_output: torch.Tensor) -> dict[str, torch.Tensor]:
        x, y = _flat(given, at_output)
        return {"weight": x.T @ y if self.transposed else y.T @ x, "bias": y.sum(0)}

    def products(self, given: torch.Tensor, at_output: torch.Tensor, direction: Own) -> torch.Tensor:
        x, y = _flat(given, at_output)
        found = torch.zeros(len(x), device=x.device)
        if "weight" in direction:
            weight = direction["weight"].T if self.transposed else direction["weight"]
            found = found + (((y @ weight) * x) if x.shape[1] <= y.shape[1] else ((x @ weight.T) * y)).sum(1)
        if "bias" in direction:
            found = found + y @ direction["bias"]
        return found.view(len(given), -1).sum(1)

    def factors(self, given: torch.Tensor, at_output: torch.Tensor) -> dict[str, Factors]:
        x, y = _by_token(given), _by_token(at_output)
        return {"weight": Factors(x, y) if self.transposed else Factors(y, x)}

    def vectors(self, given: torch.Tensor, at_output: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"bias": _by_token(at_output)}


@dataclass(frozen=True)
class Embedding(_Summed):
    """y = W[x]. Rows at `padding` get no gradient."""

    num_rows: int
    padding: int | None

    def gradient(self, given: torch.Tensor, at_output: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self._masked(given, at_output)
        return {"weight": torch.zeros(self.num_rows, y.shape[-1], dtype=y.dtype, device=y.device).index_add_(0, given.flatten(), y)}

    def products(self, given: torch.Tensor, at_output: torch.Tensor, direction: Own) -> torch.Tensor:
        products = (direction["weight"][given.flatten()] * self._masked(given, at_output)).sum(1)
        return products.view(len(given), -1).sum(1)

    def factors(self, given: torch.Tensor, at_output: torch.Tensor) -> dict[str, Factors]:
        rows = given.reshape(len(given), -1)
        return {"weight": Factors(rows, self._masked(given, at_output).view(*rows.shape, -1), self.num_rows)}

    def vectors(self, given: torch.Tensor, at_output: torch.Tensor) -> dict[str, torch.Tensor]:
        return {}

    def _masked(self, given: torch.Tensor, at_output: torch.Tensor) -> torch.Tensor:
        y = _wide(at_output).flatten(0, -2)
        return y if self.padding is None else y * (given.flatten() != self.padding)[:, None]


@dataclass(frozen=True)
class LayerNorm(_Summed):
    """y = weight * (x - mean) / deviation + bias, over the last dimension."""

    eps: float

    def gradient(self, given: torch.Tensor, at_output: torch.Tensor) -> dict[str, torch.Tensor]:
        x, y = self._normalised(given, at_output)
        return {"weight": (x * y).sum(0), "bias": y.sum(0)}

    def products(self, given: torch.Tensor, at_output: torch.Tensor, direction: Own) -> torch.Tensor:
        x, y = self._normalised(given, at_output)
        found = torch.zeros(len(x), device=x.device)
        for name, factor in (("weight", x * y), ("bias", y)):
            found = found + factor @ direction[name] if name in direction else found
        return found.view(len(given), -1).sum(1)

    def factors(self, given: torch.Tensor, at_output: torch.Tensor) -> dict[str, Factors]:
        return {}

    def vectors(self, given: torch.Tensor, at_output: torch.Tensor) -> dict[str, torch.Tensor]:
        x, y = self._normalised(given, at_output)
        return {"weight": (x * y).view(len(given), -1, x.shape[1]), "bias": y.view(len(given), -1, y.shape[1])}

    def _normalised(self, given: torch.Tensor, at_output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = _flat(given, at_output)
        return F.layer_norm(x, x.shape[-1:], eps=self.eps), y


@dataclass(frozen=True)
class Other:
    """Any layer that does to each example the same, by forward and backward derivatives of the layer alone: for small ones."""

    module: torch.nn.Module

    def gradient(self, given: torch.Tensor, at_output: torch.Tensor) -> dict[str, torch.Tensor]:
        pull = torch.func.vjp(lambda own: torch.func.functional_call(self.module, own, (given,)), self._parameters())[1]
        (found,) = pull(at_output)
        return dict(found)

    def products(self, given: torch.Tensor, at_output: torch.Tensor, direction: Own) -> torch.Tensor:
        own = {name: parameter for name, parameter in self._parameters().items() if name in direction}
        along = {name: direction[name].to(parameter.dtype) for name, parameter in own.items()}
        moved = torch.func.jvp(lambda some: torch.func.functional_call(self.module, some, (given,)), (own,), (along,))[1]
        return (_wide(moved) * _wide(at_output)).flatten(1).sum(1)

    def factors(self, given: torch.Tensor, at_output: torch.Tensor) -> dict[str, Factors]:
        return {}

    def vectors(self, given: torch.Tensor, at_output: torch.Tensor) -> dict[str, torch.Tensor]:
        return {}

    def per_example(self, given: torch.Tensor, at_output: torch.Tensor) -> dict[str, torch.Tensor]:
        own = self._parameters()

        def pull(x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
            value, back, *_ = torch.func.vjp(lambda some: torch.func.functional_call(self.module, some, (x[None],)), own)
            return dict(back(y[None].to(value.dtype))[0])

        try:
            return dict(torch.func.vmap(pull)(given, at_output))
        except RuntimeError:  # an operation that has no rule for batches
            parts = [pull(x, y) for x, y in zip(given, at_output, strict=True)]
            return {name: torch.stack([part[name] for part in parts]) for name in own}

    def _parameters(self) -> dict[str, torch.Tensor]:
        return {name: parameter.detach() for name, parameter in self.module.named_parameters(recurse=False)}


def layer_for(module: torch.nn.Module, place: str) -> Layer:
    """What is known of the module. Errors: it mixes examples."""
    from transformers.pytorch_utils import Conv1D

    kind = type(module)  # not a class derived from it, which may do more, as scaled embeddings do
    if kind in (torch.nn.Linear, torch.nn.modules.linear.NonDynamicallyQuantizableLinear):
        return Linear()
    if kind is Conv1D:
        return Linear(transposed=True)
    if isinstance(module, torch.nn.Embedding) and kind is torch.nn.Embedding and module.max_norm is None and not module.scale_grad_by_freq:
        return Embedding(module.num_embeddings, module.padding_idx)
    if isinstance(module, torch.nn.LayerNorm) and kind is torch.nn.LayerNorm and len(module.normalized_shape) == 1:
        return LayerNorm(module.eps)
    if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
        raise InputError(f"layer {place} ({kind.__name__}): it mixes examples, so the ghost product cannot be had; set online.method=jvp")
    return Other(module)


def _wide(values: torch.Tensor) -> torch.Tensor:
    """In float32 at least."""
    return values if values.dtype == torch.float64 else values.float()


def _flat(given: torch.Tensor, at_output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Input (example * ..., in) and gradient (example * ..., out)."""
    return _wide(given).flatten(0, -2), _wide(at_output).flatten(0, -2)


def _by_token(values: torch.Tensor) -> torch.Tensor:
    """(example, token, size)."""
    return _wide(values).reshape(len(values), -1, values.shape[-1])
