"""Products with the inverse of a damped curvature: written out, by conjugate gradients, by a Neumann series."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch

from dsel.error import InputError
from dsel.functional.alignment import trainable
from dsel.functional.curvature import TrainingLoss, Vectors, added, dot, scaled

log = logging.getLogger("dsel")

MOST_DENSE = 8192  # parameters of which a matrix is written out
Damping = Mapping[str, float]
"""By name of a parameter, what is added to the curvature's diagonal."""
Solve = Callable[[Mapping[str, torch.Tensor]], Vectors]


@dataclass(frozen=True)
class Report:
    """How well a system was solved: the residual's norm over that of the right side, by vector, and the iterations it took."""

    method: str
    iterations: int = 0
    residuals: tuple[float, ...] = ()
    tolerance: float | None = None

    @property
    def converged(self) -> bool:
        """Whether all residuals are within the tolerance."""
        return self.tolerance is None or all(residual <= self.tolerance for residual in self.residuals)

    def warn(self, where: str) -> None:
        """Say so if it did not converge: the numbers are then those of an early stop."""
        if not self.converged:
            bad = [residual for residual in self.residuals if self.tolerance is not None and not residual <= self.tolerance]
            log.warning(
                "%s: %s stopped after %d iterations at a residual of %.2g (%d of %d vectors above the tolerance %.2g); raise "
                "curvature.max_iterations or curvature.damping",
                where, self.method, self.iterations, max(bad), len(bad), len(self.residuals), self.tolerance,
            )  # fmt: skip


class InverseCurvature(Protocol):
    """(curvature + damping)^-1 over some parameters."""

    reports: list[Report]
    """Of the systems that were solved."""

    def solve(self, vectors: Mapping[str, torch.Tensor]) -> Vectors:
        """The product with each vector; all of one call have the same parameters. Errors: the curvature is negative along one."""
        ...


def damped_times(loss: TrainingLoss, kind: str, damping: Damping, vectors: Mapping[str, torch.Tensor]) -> Vectors:
    """(curvature + damping) times vectors."""
    found = loss.curvature_times(vectors, kind)
    return {name: value + damping[name] * vectors[name] for name, value in found.items()}


def negative(value: float, where: str) -> InputError:
    """What is said of a curvature that has no inverse to speak of."""
    return InputError(
        f"curvature.kind=hessian: the curvature{where} is {value:.3g} with its damping, and must be above 0: the model is not at a minimum "
        "of its training loss; raise curvature.damping by as much, or set curvature.kind=gauss_newton"
    )


@dataclass
class Dense:
    """The matrix written out and factored once, in float64. Errors: more than 8,192 parameters; an eigenvalue that is not positive."""

    loss: TrainingLoss
    damping: Damping
    kind: str = "hessian"
    reports: list[Report] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shapes = {name: p.shape for name, p in trainable(self.loss.model, self.damping).items()}
        size = sum(shape.numel() for shape in self.shapes.values())
        if size > MOST_DENSE:
            raise InputError(
                f"curvature=explicit: the model trains {size} parameters, and a matrix is written out of at most {MOST_DENSE}; set "
                "curvature=conjugate_gradient or curvature=ekfac, or fewer of them by scorer.parameters="
            )
        beside = next(iter(trainable(self.loss.model, self.damping).values()))
        columns = damped_times(self.loss, self.kind, self.damping, self.split(torch.eye(size, dtype=beside.dtype, device=beside.device)))
        matrix = self.join(columns).double()
        values, self._basis = torch.linalg.eigh((matrix + matrix.T) / 2)
        if values[0] <= 0:
            raise negative(float(values[0]), "'s least eigenvalue")
        self._values = values

    def join(self, vectors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(vector, parameter)."""
        return torch.cat([vectors[name].flatten(1) for name in self.shapes], 1)

    def split(self, flat: torch.Tensor) -> Vectors:
        """The reverse."""
        parts = torch.split(flat, [shape.numel() for shape in self.shapes.values()], 1)
        return {name: part.view(-1, *shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def solve(self, vectors: Mapping[str, torch.Tensor]) -> Vectors:
        """Exact."""
        flat = self.join(vectors)
        found = ((flat.double() @ self._basis) / self._values) @ self._basis.T
        self.reports.append(Report("explicit"))
        return self.split(found.to(flat.dtype))


@dataclass
class ByConjugateGradient:
    """Conjugate gradients on products with the curvature (Martens 2010), all vectors side by side, each with steps of its own.
    `precondition` is an approximate inverse that saves iterations, such as EK-FAC's. Errors: a direction of negative curvature."""

    loss: TrainingLoss
    damping: Damping
    kind: str = "gauss_newton"
    max_iterations: int = 100
    tolerance: float = 1e-3
    precondition: Solve | None = None
    reports: list[Report] = field(default_factory=list)

    def solve(self, vectors: Mapping[str, torch.Tensor]) -> Vectors:
        """To a relative residual of `tolerance`, or as far as `max_iterations` go, which `reports` tell."""
        first = self.precondition or dict
        residual: Vectors = dict(vectors)
        solution = {name: torch.zeros_like(value) for name, value in vectors.items()}
        turned = first(residual)
        direction, product = turned, dot(residual, turned)
        size, iterations = dot(vectors, vectors).sqrt().clamp_min(1e-30), 0
        while iterations < self.max_iterations and bool((self._residual(residual, size) > self.tolerance).any()):
            active = self._residual(residual, size) > self.tolerance  # what has converged stands still, so that others do not change it
            curved = damped_times(self.loss, self.kind, self.damping, direction)
            bend = dot(direction, curved)
            if bool((active & (bend <= 0)).any()):
                raise negative(float((bend / dot(direction, direction).clamp_min(1e-30))[active].min()), " along a direction")
            step = torch.where(active, product / bend.clamp_min(1e-30), 0.0)
            solution, residual = added(solution, direction, step), added(residual, curved, -step)
            turned = first(residual)
            before, product = product, torch.where(active, dot(residual, turned), product)
            direction = added(turned, direction, torch.where(active, product / before.clamp_min(1e-30), 0.0))
            iterations += 1
        rest = tuple(self._residual(residual, size).tolist())
        self.reports.append(Report("conjugate gradients", iterations, rest, self.tolerance))
        return solution

    @staticmethod
    def _residual(residual: Vectors, size: torch.Tensor) -> torch.Tensor:
        return dot(residual, residual).sqrt() / size


@dataclass
class Lissa:
    """The Neumann series on a batch at a time (arXiv 1602.03943): x <- v + x - (curvature of a batch + damping) x / `scale`, the mean of
    `num_repeats` runs of `num_steps`. `scale` must be above the largest eigenvalue; None: twice what a few products say it is.
    Errors: the series runs away."""

    loss: TrainingLoss
    damping: Damping
    seed: int
    kind: str = "gauss_newton"
    num_steps: int = 1000
    num_repeats: int = 1
    scale: float | None = None
    reports: list[Report] = field(default_factory=list)

    def solve(self, vectors: Mapping[str, torch.Tensor]) -> Vectors:
        """An estimate without bias as the steps grow many; `reports` tell the residual on the whole loss."""
        scale, generator = self.scale or 2 * self._largest(vectors), torch.Generator().manual_seed(self.seed)
        total = {name: torch.zeros_like(value) for name, value in vectors.items()}
        parts = [TrainingLoss(self.loss.model, self.loss.objective, [batch], self.loss.penalty) for batch in self.loss.batches]
        sizes = torch.tensor([float(part.num_tokens) for part in parts])
        for _ in range(self.num_repeats):
            found: Vectors = dict(vectors)
            for _ in range(self.num_steps):
                which = int(torch.multinomial(sizes, 1, generator=generator))  # in proportion to its tokens, whose mean the loss is
                curved = damped_times(parts[which], self.kind, self.damping, found)
                found = {name: vectors[name] + value - curved[name] / scale for name, value in found.items()}
            total = added(total, found)
        size = dot(vectors, vectors).sqrt().clamp_min(1e-30)
        solution = scaled(total, torch.full_like(size, 1 / (self.num_repeats * scale)))
        rest = added(vectors, damped_times(self.loss, self.kind, self.damping, solution), torch.full_like(size, -1.0))
        residuals = dot(rest, rest).sqrt() / size
        if not bool(torch.isfinite(residuals).all()) or bool((residuals > 1e3).any()):
            raise InputError(f"curvature=lissa: the series runs away with curvature.scale={scale:.3g}; raise it, or curvature.damping")
        self.reports.append(Report("lissa", self.num_steps * self.num_repeats, tuple(residuals.tolist())))
        return solution

    def _largest(self, vectors: Mapping[str, torch.Tensor], num_products: int = 10) -> float:
        """About the largest eigenvalue, by power iteration from the first vector."""
        found = {name: value[:1] for name, value in vectors.items()}
        size = torch.ones(1)
        for _ in range(num_products):
            norm = dot(found, found).sqrt().clamp_min(1e-30)
            found = damped_times(self.loss, self.kind, self.damping, scaled(found, 1 / norm))
            size = dot(found, found).sqrt()
        return float(size)
