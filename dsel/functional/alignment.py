"""How far each example's, or token's, gradient points along a direction, in the ways that autograd knows.

All but finite differences are exact. `ghost` has the way that costs next to nothing, for examples.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from dsel.functional.gradients import moved, norm

Direction = Mapping[str, torch.Tensor]
"""By name of a trainable parameter, a tensor of its shape; one that is missing counts as zeros. Tied parameters stand under their first
name only."""
Losses = Callable[[torch.nn.Module], torch.Tensor]
"""Token losses (example, time) of some batch under a model."""


def trainable(model: torch.nn.Module, only: Collection[str] | None = None) -> dict[str, torch.nn.Parameter]:
    """The parameters that are trained, each once; of these names, if some are given."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad and (only is None or name in only)}


def gradient(model: torch.nn.Module, loss: torch.Tensor, only: Collection[str] | None = None) -> dict[str, torch.Tensor]:
    """The gradient of a scalar by the parameters `only` (None: all), with zeros where one has no part in it."""
    parameters = trainable(model, only)
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(parameters.items(), found, strict=True)}


def by_loop(model: torch.nn.Module, losses: torch.Tensor, direction: Direction) -> torch.Tensor:
    """<gradient of each loss, direction>, of the shape of `losses`, whose graph is kept: one backward pass each. What the others are
    tested against."""
    parameters, found = trainable(model, direction), []
    for loss in losses.flatten():
        own = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
        found.append(sum((g * direction[name]).sum() for name, g in zip(parameters, own, strict=True) if g is not None))
    return torch.stack([torch.as_tensor(value) for value in found]).view(losses.shape)


def by_double_backward(model: torch.nn.Module, losses: torch.Tensor, direction: Direction) -> torch.Tensor:
    """The same for all tokens at once: the derivative by z of <gradient of sum z * losses, direction>, which is linear in z."""
    weights = torch.ones_like(losses, requires_grad=True)
    parameters = trainable(model, direction)
    own = torch.autograd.grad((weights * losses).sum(), list(parameters.values()), create_graph=True, allow_unused=True)
    inner = sum((g * direction[name]).sum() for name, g in zip(parameters, own, strict=True) if g is not None)
    (found,) = torch.autograd.grad(torch.as_tensor(inner), weights)
    return found


def by_jvp(model: torch.nn.Module, losses: Losses, direction: Direction) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses (example, time), on which backward works, and their derivatives along `direction`: dual numbers through one forward pass.

    Errors: an operation without a forward derivative, such as attention that a package of its own has fused.
    """
    _load_derivatives()
    with _padding_held(model), forward_ad.dual_level(), _Derivatives():
        duals = {f"model.{name}": _dual(p, direction[name]) for name, p in trainable(model, direction).items()}
        found = torch.func.functional_call(_Bound(model, losses), duals, ())
        values, slopes = forward_ad.unpack_dual(found)  # type: ignore[no-untyped-call]
    return values, torch.zeros_like(values) if slopes is None else slopes.detach()


def by_finite_difference(model: torch.nn.Module, losses: Losses, direction: Direction, step: float = 1e-2) -> torch.Tensor:
    """About the same (example, time), by central differences over `step` times the direction scaled to norm 1. Not exact: it wants
    float64, or float32 and a model without dropout. Parameters are as before afterwards."""
    scale = step / max(norm(direction.values()), 1e-30)
    parameters, sides = trainable(model, direction), []
    with _padding_held(model), torch.no_grad():
        for sign in (1, -1):
            with moved(parameters, direction, sign * scale):
                sides.append(losses(model))
    return (sides[0] - sides[1]) / (2 * scale)


@contextmanager
def plain_attention() -> Iterator[None]:
    """torch's attention by plain operations, which have every derivative; the fused ones have the first backward one only."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


@contextmanager
def _padding_held(model: torch.nn.Module) -> Iterator[None]:
    """Embeddings of padding stand still, as they do in training: autograd gives them no gradient, even where the weights are tied to
    others that have one."""

    def hold(still: torch.Tensor, module: torch.nn.Embedding, args: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        is_padding = torch.eq(args[0], torch.as_tensor(module.padding_idx))
        return torch.where(is_padding[..., None], still, output)

    hooks = []
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
            with torch.no_grad():
                still = module(torch.tensor(module.padding_idx, device=module.weight.device)).clone()
            hooks.append(module.register_forward_hook(partial(hold, still)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Derivatives(TorchFunctionMode):
    """What takes most of a model's time carries its derivative beside its value, without a graph of it: nothing is differentiated by a
    derivative here. All else goes the way that torch has."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is F.linear and len(args) >= 2 and not given:
            return _linear(*args)
        if func in (F.layer_norm, F.cross_entropy):
            return _apart(func, args, given)
        if func is F.scaled_dot_product_attention:
            drops = given.get("dropout_p", args[4] if len(args) > 4 else 0.0)  # what drops out must be the same for both
            with plain_attention() if drops else nullcontext():
                return func(*args, **given) if drops else _apart(func, args, given)
        return func(*args, **given)


def _apart(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor:
    """The value as ever, its derivative by torch's forward derivatives of detached values."""
    duals: list[torch.Tensor | None] = []

    def part(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        primal, slope = forward_ad.unpack_dual(value)  # type: ignore[no-untyped-call]
        duals.append(slope)
        return primal

    def detached(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        slope = duals.pop(0)
        return value.detach() if slope is None else _dual(value.detach(), slope.detach())

    plain, named = tree_map(part, (args, dict(kwargs)))
    value: torch.Tensor = func(*plain, **named)
    if all(slope is None for slope in duals):
        return value
    with torch.no_grad(), plain_attention():
        plain, named = tree_map(detached, (plain, named))
        slope = forward_ad.unpack_dual(func(*plain, **named)).tangent  # type: ignore[no-untyped-call]
    return _dual(value, slope)


def _linear(given: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    (x, x_slope), (w, w_slope) = (forward_ad.unpack_dual(value) for value in (given, weight))  # type: ignore[no-untyped-call]
    b, b_slope = (None, None) if bias is None else forward_ad.unpack_dual(bias)  # type: ignore[no-untyped-call]
    value = F.linear(x, w, b)
    with torch.no_grad():
        slope = None if x_slope is None else F.linear(x_slope, w)
        if w_slope is not None:
            flat = x.reshape(-1, x.shape[-1])
            if slope is None:
                slope = F.linear(x, w_slope)
            else:
                slope.view(-1, slope.shape[-1]).addmm_(flat, w_slope.T)
        if b_slope is not None:
            slope = b_slope.expand_as(value).clone() if slope is None else slope.add_(b_slope)
    return value if slope is None else _dual(value, slope)


@cache
def _load_derivatives() -> None:
    """What torch compiles at its first dual number, of which it warns itself."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=DeprecationWarning)
        _dual(torch.zeros(1), torch.zeros(1))


def _dual(value: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    dual: torch.Tensor = forward_ad.make_dual(value, slope)  # type: ignore[no-untyped-call]
    return dual


class _Bound(torch.nn.Module):
    """The losses as a module's forward pass, so that other parameters can stand in."""

    def __init__(self, model: torch.nn.Module, losses: Losses) -> None:
        super().__init__()
        self.model, self.losses = model, losses

    def forward(self) -> torch.Tensor:
        return self.losses(self.model)
