"""The linear layers whose parameters are looked at, as matrices."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from dsel.error import InputError
from dsel.functional.alignment import trainable
from dsel.functional.curvature import Vectors
from dsel.functional.ghost_calls import Call
from dsel.functional.ghost_layers import Linear, layer_for


@dataclass(frozen=True)
class Tracked:
    """A linear layer: the model's names for its `weight` and `bias`, and whether the weight is (in, out), as in GPT-2, or (out, in).
    Its matrix is (out, in), with the bias as a last column."""

    weight: str
    bias: str | None
    is_transposed: bool
    num_outputs: int
    num_inputs: int
    like: torch.Tensor

    @property
    def names(self) -> list[str]:
        """Of its parameters."""
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    def join(self, vectors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Matrices (vector, out, in)."""
        weight = vectors[self.weight].mT if self.is_transposed else vectors[self.weight]
        return weight if self.bias is None else torch.cat([weight, vectors[self.bias][..., None]], 2)

    def split(self, matrices: torch.Tensor) -> Vectors:
        """The reverse."""
        weight = matrices if self.bias is None else matrices[..., :-1]
        found = {self.weight: (weight.mT if self.is_transposed else weight).contiguous()}
        return found if self.bias is None else found | {self.bias: matrices[..., -1].contiguous()}

    def tokens(self, call: Call) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients at outputs (example, token, out), and inputs (example, token, in)."""
        given, at_output = call.rows()
        y, x = (each.reshape(len(each), -1, each.shape[-1]).to(self.like.dtype) for each in (at_output, given))
        return y, (x if self.bias is None else torch.cat([x, x.new_ones(*x.shape[:2], 1)], 2))

    def rows(self, call: Call) -> tuple[torch.Tensor, torch.Tensor]:
        """The same of all examples one below the other."""
        y, x = self.tokens(call)
        return y.flatten(0, 1), x.flatten(0, 1)

    def empty_covariances(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Zeros (out, out) and (in, in)."""
        width = self.num_inputs + (self.bias is not None)
        return self.like.new_zeros(self.num_outputs, self.num_outputs), self.like.new_zeros(width, width)


def tracked_layers(model: torch.nn.Module, pattern: str | None = None) -> tuple[list[Tracked], list[str]]:
    """The linear layers of which parameters are trained, in whose weights' names the regular expression is found (None: all); and the names
    of trained parameters that belong to none: embeddings, norms, and weights that are tied to an embedding, whose curvature is no
    Kronecker product. Errors: no layer."""
    trained = trainable(model)
    uses: dict[int, list[torch.nn.Module]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            uses.setdefault(id(parameter), []).append(module)
    found: dict[str, Tracked] = {}
    for place, module in model.named_modules():
        layer = layer_for(module, place) if next(iter(module.parameters(recurse=False)), None) is not None else None
        if not isinstance(layer, Linear):
            continue
        names = {own: name for own, p in module.named_parameters(recurse=False) for name, q in trained.items() if p is q}
        weight = names.get("weight")
        if weight is None or weight in found or (pattern is not None and not re.search(pattern, weight)):
            continue
        if all(isinstance(layer_for(user, place), Linear) for user in uses[id(trained[weight])]):
            shape = trained[weight].shape
            num_outputs, num_inputs = reversed(shape) if layer.transposed else shape
            found[weight] = Tracked(weight, names.get("bias"), layer.transposed, num_outputs, num_inputs, trained[weight].detach())
    rest = [name for name in trained if name not in {own for layer in found.values() for own in layer.names}]
    if not found:
        asked = f"in whose weight's name scorer.parameters={pattern} is found" if pattern else "that is not tied to an embedding"
        known = ", ".join(list(trained)[:4]) or "none"
        raise InputError(
            f"curvature=ekfac: the model has no trained linear layer {asked} ({len(trained)} trained parameters: {known} ...); set "
            "curvature=conjugate_gradient, or another scorer.parameters"
        )
    return list(found.values()), rest


def tracked_names(model: torch.nn.Module, pattern: str | None, linear_only: bool) -> list[str]:
    """The trained parameters in whose names the regular expression is found (None: all), or those of such linear layers. Errors: none."""
    if linear_only:
        return [name for layer in tracked_layers(model, pattern)[0] for name in layer.names]
    trained = list(trainable(model))
    found = [name for name in trained if pattern is None or re.search(pattern, name)]
    if not found:
        known = ", ".join(trained[:4]) or "none"
        raise InputError(f"scorer.parameters={pattern}: is found in no trained parameter's name ({len(trained)}: {known} ...)")
    return found


@contextmanager
def only_trained(model: torch.nn.Module, names: Collection[str]) -> Iterator[None]:
    """Inside of `with`, these parameters are trained, and no other."""
    before = {p: p.requires_grad for p in model.parameters()}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
    try:
        yield
    finally:
        for parameter, was in before.items():
            parameter.requires_grad_(was)
