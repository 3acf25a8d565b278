"""A training step that an online selector may look into: its losses, and how each of them points where the clean batch's do."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection
from functools import cached_property
from typing import Any

import torch

from dsel.error import InputError
from dsel.functional.alignment import (
    Direction,
    by_double_backward,
    by_finite_difference,
    by_jvp,
    by_loop,
    gradient,
    plain_attention,
    trainable,
)
from dsel.functional.ghost import Tape
from dsel.protocol import Losses, Turn

log = logging.getLogger("dsel")

EXAMPLE_METHODS = ("ghost", "jvp", "double_backward", "finite_difference", "loop")
TOKEN_METHODS = EXAMPLE_METHODS[1:]


class Step:
    """One step on `batch`, with `clean` beside it. Weights that a selector gives become the step's loss by `loss`.

    `number` counts the run's steps; `optimizer` is what takes them. What is costly is computed when it is asked for, and once.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        objective: Losses,
        batch: Any,
        clean: Any,
        number: int,
        smoothing: float = 0.0,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        self.model, self.objective, self.batch, self.clean = model, objective, batch, clean
        self.number, self.smoothing, self.optimizer = number, smoothing, optimizer
        self._losses: torch.Tensor | None = None
        self._tape: Tape | None = None
        self.alignment: torch.Tensor | None = None  # (example,), once it was asked for

    @property
    def losses(self) -> torch.Tensor:
        """Of each token (example, time)."""
        if self._losses is None:
            self._losses = self._token_losses(self.model)
        return self._losses

    @cached_property
    def predicted(self) -> torch.Tensor:
        """Which of them are of tokens (example, time)."""
        return self.objective.predicted(self.batch)

    def names(self, pattern: str) -> frozenset[str]:
        """Of the parameters in whose names the regular expression is found. Errors: there are none."""
        known = list(trainable(self.model))
        found = frozenset(name for name in known if re.search(pattern, name))
        if not found:
            raise InputError(f"online.parameters={pattern}: no parameter's name has it; they are {', '.join(known[:4])} ... {known[-1]}")
        return found

    def clean_gradient(self, only: Collection[str] | None = None) -> dict[str, torch.Tensor]:
        """Of the mean token loss of the clean batch, by the parameters `only` (None: all)."""
        if self._tape is not None:
            count = self.objective.predicted(self.clean).sum().clamp_min(1)
            return {name: value / count for name, value in self._tape.gradient(1, only=only).items()}
        losses = self.objective.token_losses(self.model, self.clean, self.smoothing)
        return gradient(self.model, losses.sum() / self.objective.predicted(self.clean).sum().clamp_min(1), only)

    def precondition(self, direction: Direction) -> Direction:
        """What Adam makes of a gradient: divided by the root of its mean square. The same before the first step. Errors: it is not Adam."""
        if self.optimizer is None or not self.optimizer.state:
            return direction
        parameters = trainable(self.model)
        return {name: value / self._root_mean_square(parameters[name]) for name, value in direction.items()}

    def _root_mean_square(self, parameter: torch.nn.Parameter) -> torch.Tensor:
        assert self.optimizer is not None
        state = self.optimizer.state[parameter]
        if "exp_avg_sq" not in state:
            raise InputError(f"online.precondition=adam: {type(self.optimizer).__name__} keeps no mean squares; set optimizer=adamw")
        group = self.optimizer.param_groups[0]
        bias = 1 - group["betas"][1] ** float(state["step"])
        root: torch.Tensor = (state["exp_avg_sq"] / bias).sqrt() + group["eps"]
        return root

    def align(self, method: str, per_token: bool, turn: Turn | None = None, only: Collection[str] | None = None) -> torch.Tensor:
        """<gradient of an example's summed loss, clean gradient> (example,), or of each token's (example, time).

        Over the parameters `only` (None: all). `turn` makes of the clean gradient what is aligned with. Errors: a method that cannot
        do the one or the other.
        """
        found = self._align_by_ghost(turn, only) if method == "ghost" and not per_token else self._align(method, per_token, turn, only)
        self.alignment = (found.sum(1) if per_token else found).detach()
        return found

    def norms(self, only: Collection[str] | None = None) -> torch.Tensor:
        """The norm of each example's gradient (example,), after `align` by the ghost product. Errors: it went another way."""
        if self._tape is None:
            raise InputError("online.similarity=cosine: needs each example's norm: set online.level=example online.method=ghost")
        return self._tape.norms(only=only)

    def _align(self, method: str, per_token: bool, turn: Turn | None, only: Collection[str] | None) -> torch.Tensor:
        direction: Direction = self.clean_gradient(only)
        direction = turn(direction) if turn else direction
        match method:
            case "jvp":
                self._losses, slopes = by_jvp(self.model, self._token_losses, direction)
            case "double_backward":
                with plain_attention():
                    slopes = by_double_backward(self.model, self._token_losses(self.model), direction)
            case "finite_difference":
                slopes = by_finite_difference(self.model, self._token_losses, direction)
            case "loop":
                losses = self._token_losses(self.model)
                return by_loop(self.model, losses if per_token else losses.sum(1), direction)
            case _:
                known = TOKEN_METHODS if per_token else EXAMPLE_METHODS
                raise InputError(f"online.method={method}: for {'tokens' if per_token else 'examples'} it is one of {', '.join(known)}")
        return slopes if per_token else slopes.sum(1)

    def cheapest(self, per_token: bool, turn: Turn | None = None, only: Collection[str] | None = None) -> str:
        """The exact method that takes the least time on this step, forward and backward; it is said. Errors: the model allows none."""
        spent: dict[str, float] = {}
        for method in ("jvp", "double_backward") if per_token else ("ghost", "jvp"):
            try:
                spent[method] = min(self._time(method, per_token, turn, only) for _ in range(2))  # the first compiles and allocates
            except (InputError, NotImplementedError, RuntimeError) as error:
                log.info("online: method=%s cannot be had: %s", method, str(error).splitlines()[0])
        if not spent:
            raise InputError(
                "online.method=auto: no exact method can be had with this model; set online.method=loop to see how far it gets"
            )
        best = min(spent, key=lambda method: spent[method])
        log.info("online: method=%s (%s)", best, ", ".join(f"{method} {seconds:.3f} s a step" for method, seconds in spent.items()))
        return best

    def _time(self, method: str, per_token: bool, turn: Turn | None, only: Collection[str] | None) -> float:
        other = Step(self.model, self.objective, self.batch, self.clean, self.number, self.smoothing, self.optimizer)
        before = {name: p.grad for name, p in trainable(self.model).items()}
        with torch.random.fork_rng():
            started = time.perf_counter()
            weights = (other.align(method, per_token, turn, only) > 0).float()
            torch.autograd.backward(other.loss(weights, other.predicted.sum()))
            if weights.is_cuda:
                torch.cuda.synchronize()
            spent = time.perf_counter() - started
        for name, parameter in trainable(self.model).items():
            parameter.grad = before[name]
        return spent

    def kept(self, weights: torch.Tensor) -> torch.Tensor:
        """Which tokens (example, time) `weights` ((example,) or (example, time)) keep."""
        return self.predicted & (_by_token(weights) > 0)

    def loss(self, weights: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        """Sum of losses times `weights` ((example,) or (example, time)) over `count`."""
        if self._tape is None:
            return (self.losses * _by_token(weights)).sum() / count
        parameters = list(trainable(self.model).values())
        value = (self.losses.detach() * weights[:, None]).sum() / count
        loss: torch.Tensor = _TapedLoss.apply(value, self._tape, weights / count, *parameters)  # type: ignore[no-untyped-call]
        return loss

    def _token_losses(self, model: torch.nn.Module) -> torch.Tensor:
        return self.objective.token_losses(model, self.batch, self.smoothing)

    def _align_by_ghost(self, turn: Turn | None, only: Collection[str] | None) -> torch.Tensor:
        with Tape(self.model) as tape:
            found = []
            for batch in (self.batch, self.clean):  # one after the other: together they would be padded to one width
                predicted = self.objective.predicted(batch)
                tape.begin(len(predicted))
                found.append(self.objective.token_losses(self.model, batch, self.smoothing))
                tape.backward(found[-1].sum())
        self._tape, self._losses = tape, found[0].detach()
        if turn is not None:
            return tape.products(turn(self.clean_gradient(only)))
        return tape.align(only=only) / predicted.sum().clamp_min(1)


def _by_token(weights: torch.Tensor) -> torch.Tensor:
    return weights if weights.ndim == 2 else weights[:, None]


class _TapedLoss(torch.autograd.Function):
    """A loss whose gradient stands on a tape: what comes after it, clipping, scaling and other processes' sums, sees nothing special."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, tape: Tape, weights: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        ctx.tape, ctx.weights = tape, weights
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        found = ctx.tape.gradient(0, ctx.weights * outer[0])
        return None, None, None, *(found[name] for name in ctx.tape.parameters)
