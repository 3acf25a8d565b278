"""A training step that an online selector may look into: its losses, and how each of them points where the clean batch's do."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import torch

from dsel.error import InputError
from dsel.functional.alignment import by_double_backward, by_finite_difference, by_jvp, by_loop, gradient, plain_attention, trainable
from dsel.functional.ghost import Tape
from dsel.protocol import Objective

log = logging.getLogger("dsel")

EXAMPLE_METHODS = ("ghost", "jvp", "double_backward", "finite_difference", "loop")
TOKEN_METHODS = EXAMPLE_METHODS[1:]
Direction = Mapping[str, torch.Tensor]


class Step:
    """One step on `batch`, with `clean` beside it. Weights that a selector gives become the step's loss by `loss`.

    `number` counts the run's steps. What is costly is computed when it is asked for, and once.
    """

    def __init__(self, model: torch.nn.Module, objective: Objective, batch: Any, clean: Any, number: int, smoothing: float = 0.0) -> None:
        self.model, self.objective, self.batch, self.clean = model, objective, batch, clean
        self.number, self.smoothing = number, smoothing
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

    def clean_gradient(self) -> dict[str, torch.Tensor]:
        """Of the mean token loss of the clean batch."""
        if self._tape is not None:
            examples = len(self.predicted)
            weights = torch.zeros(self._tape.num_examples, device=self.predicted.device)
            weights[examples:] = 1
            found = self._tape.gradient(weights)
            count = self.objective.predicted(self.clean).sum().clamp_min(1)
            return {name: value / count for name, value in found.items()}
        losses = self.objective.token_losses(self.model, self.clean, self.smoothing)
        return gradient(self.model, losses.sum() / self.objective.predicted(self.clean).sum().clamp_min(1))

    def align(self, method: str, per_token: bool, average: Callable[[Direction], Direction] | None = None) -> torch.Tensor:
        """<gradient of an example's summed loss, clean gradient> (example,), or of each token's (example, time).

        `average` turns the clean gradient into what is aligned with. Errors: a method that cannot do the one or the other.
        """
        found = self._align_by_ghost(average) if method == "ghost" and not per_token else self._align(method, per_token, average)
        self.alignment = (found.sum(1) if per_token else found).detach()
        return found

    def norms(self) -> torch.Tensor:
        """The norm of each example's gradient (example,), after `align` by the ghost product. Errors: it went another way."""
        if self._tape is None:
            raise InputError("online.similarity=cosine: needs each example's norm: set online.level=example online.method=ghost")
        return self._tape.norms(len(self.predicted))

    def _align(self, method: str, per_token: bool, average: Callable[[Direction], Direction] | None) -> torch.Tensor:
        direction = self.clean_gradient()
        direction = dict(average(direction)) if average else direction
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

    def cheapest(self, per_token: bool) -> str:
        """The exact method that takes the least time on this step, forward and backward; it is said. Errors: the model allows none."""
        spent: dict[str, float] = {}
        for method in ("jvp", "double_backward") if per_token else ("ghost", "jvp"):
            try:
                spent[method] = min(self._time(method, per_token) for _ in range(2))  # the first compiles and allocates
            except (InputError, NotImplementedError, RuntimeError) as error:
                log.info("online: method=%s cannot be had: %s", method, str(error).splitlines()[0])
        if not spent:
            raise InputError(
                "online.method=auto: no exact method can be had with this model; set online.method=loop to see how far it gets"
            )
        best = min(spent, key=lambda method: spent[method])
        log.info("online: method=%s (%s)", best, ", ".join(f"{method} {seconds:.3f} s a step" for method, seconds in spent.items()))
        return best

    def _time(self, method: str, per_token: bool) -> float:
        other = Step(self.model, self.objective, self.batch, self.clean, self.number, self.smoothing)
        before = {name: p.grad for name, p in trainable(self.model).items()}
        with torch.random.fork_rng():
            started = time.perf_counter()
            weights = (other.align(method, per_token) > 0).float()
            torch.autograd.backward(other.loss(weights, other.predicted.sum()))
            spent = time.perf_counter() - started
        for name, parameter in trainable(self.model).items():
            parameter.grad = before[name]
        return spent

    def loss(self, weights: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        """Sum of losses times `weights` ((example,) or (example, time)) over `count`."""
        if self._tape is None:
            return (self.losses * (weights if weights.ndim == 2 else weights[:, None])).sum() / count
        parameters = list(trainable(self.model).values())
        value = (self.losses.detach() * weights[:, None]).sum() / count
        loss: torch.Tensor = _TapedLoss.apply(value, self._tape, weights / count, *parameters)  # type: ignore[no-untyped-call]
        return loss

    def _token_losses(self, model: torch.nn.Module) -> torch.Tensor:
        return self.objective.token_losses(model, self.batch, self.smoothing)

    def _align_by_ghost(self, average: Callable[[Direction], Direction] | None) -> torch.Tensor:
        joint = self.objective.join([self.batch, self.clean])
        predicted, examples = self.objective.predicted(joint), len(self.predicted)
        with Tape(self.model, len(predicted)) as tape:
            losses = self.objective.token_losses(self.model, joint, self.smoothing)
            tape.backward(losses.sum())
        self._tape, self._losses = tape, losses[:examples, : self.predicted.shape[1]].detach()
        if average is not None:
            return tape.products(average(self.clean_gradient()), examples)
        return tape.align(examples) / predicted[examples:].sum().clamp_min(1)


class _TapedLoss(torch.autograd.Function):
    """A loss whose gradient stands on a tape: what comes after it, clipping, scaling and other processes' sums, sees nothing special."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, tape: Tape, weights: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        ctx.tape, ctx.weights = tape, weights
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        whole = torch.zeros(ctx.tape.num_examples, device=ctx.weights.device)
        whole[: len(ctx.weights)] = ctx.weights * outer[0]
        found = ctx.tape.gradient(whole)
        return None, None, None, *(found[name] for name in ctx.tape.parameters)
