"""Many logistic regressions on the same rows, which differ only in what the rows weigh: the minima of all, together.

For weights w, and rows with features g and outputs f: the weighted mean of log(1 + exp(-(f + w.g))), plus penalty * |w|^2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from dsel.error import InputError

Floats = npt.NDArray[np.float64]
BYTES = 1 << 26  # that a chunk of subsets may take
TOLERANCE = 1e-11  # of a gradient, as a share of what its rows' norms could add up to at weights of zero
STEPS = 100  # of many subsets together; those that are left then are fitted one by one
NEWTON_STEPS = 200
HALVINGS = 60
MEMORY = 20  # steps whose change of gradient tells about a subset's curvature


def minimise(
    features: npt.NDArray[np.float32],
    outputs: Floats,
    shares: Floats,
    task: npt.NDArray[np.int64],
    penalty: float,
) -> Floats:
    """Weights (subset, dim), of features (row, dim), outputs (row,), task (row,) and shares (subset, task): what a task's rows weigh each.

    Quasi-Newton steps of all subsets together, from the weights that are best for their mean objective, with the Hessian there. To factor a
    Hessian for each subset would take longer than all the rest, and the steps soon learn what a subset's own differs by. Up to rounding and
    `TOLERANCE` a subset's weights do not depend on the others. Errors: no convergence.
    """
    rows, basis = span(to_tensor(features))
    weights = torch.zeros(len(shares), np.shape(features)[1], dtype=torch.float64)
    if not weights.numel():
        return weights.numpy()
    problem = _Problem(rows, to_tensor(outputs), penalty)
    mean = to_tensor(shares.mean(0, keepdims=True)[:, task])
    centre, _ = _newton(problem, mean, torch.zeros(1, rows.shape[1], dtype=torch.float64))
    inverse = problem.inverse_hessian(centre, mean)
    for some in chunks(len(shares), 6 * len(rows) + (2 * MEMORY + 8) * rows.shape[1]):
        of_rows = to_tensor(shares[some][:, task])
        found, is_open = _descend(problem, of_rows, centre, inverse)
        for subset in torch.nonzero(is_open).flatten().tolist():
            found[subset], failed = _newton(problem, of_rows[[subset]], found[[subset]])
            if failed:
                raise InputError(f"subset {some.start + subset}: no convergence in {NEWTON_STEPS} steps at penalty={penalty}; raise it")
        weights[some] = found if basis is None else found @ basis.T
    return weights.numpy()


def evaluate(weights: Floats, features: npt.NDArray[np.float32], outputs: Floats) -> Floats:
    """log(1 + exp(-(f + w.g))) (subset, row) of weights (subset, dim)."""
    found = np.empty((len(weights), len(features)))
    problem = _Problem(to_tensor(features), to_tensor(outputs), 0.0)
    for some in chunks(len(weights), 3 * len(features)):
        found[some] = _loss(problem.margins(to_tensor(weights[some]))).numpy()
    return found


def span(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Features (row, rank) and the basis (dim, rank) that they are in, where a row has more than there are rows; None: as they were.

    Whoever pays for |w|^2 stays in the span of the rows.
    """
    if features.shape[1] <= len(features):
        return features, None
    basis, across = torch.linalg.qr(features.T)
    return across.T.contiguous(), basis


def chunks(count: int, floats_each: int) -> Iterator[slice]:
    """Slices of `count` things, each of which needs so many numbers."""
    size = max(1, BYTES // (8 * max(1, floats_each)))
    return (slice(start, start + size) for start in range(0, count, size))


def to_tensor(values: npt.NDArray[np.floating[Any]]) -> torch.Tensor:
    """A copy in float64."""
    return torch.from_numpy(np.array(values, dtype=np.float64))


def _loss(margins: torch.Tensor) -> torch.Tensor:
    return F.softplus(-margins, threshold=100)  # below it torch computes log1p(exp), above it rounds


@dataclass(frozen=True)
class _Problem:
    features: torch.Tensor  # (row, dim)
    outputs: torch.Tensor  # (row,)
    penalty: float

    def margins(self, weights: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.outputs, weights, self.features.T)

    def at(self, weights: torch.Tensor, shares: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Objectives (subset,) and gradients (subset, dim), of weights (subset, dim) and shares (subset, row)."""
        margins = self.margins(weights)
        values = (shares * _loss(margins)).sum(1) + self.penalty * weights.square().sum(1)
        return values, 2 * self.penalty * weights - (shares * torch.sigmoid(-margins)) @ self.features

    def tolerance(self, shares: torch.Tensor) -> torch.Tensor:
        """Of the norm of a gradient (subset,)."""
        norms: torch.Tensor = torch.sigmoid(-self.outputs) * self.features.norm(dim=1)
        return TOLERANCE * (shares @ norms)

    def inverse_hessian(self, weights: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """(dim, dim) for one subset's weights (1, dim) and shares (1, row)."""
        margins = self.margins(weights)
        curvature = (shares * torch.sigmoid(margins) * torch.sigmoid(-margins))[0]
        hessian = (self.features * curvature[:, None]).T @ self.features
        hessian.diagonal().add_(2 * self.penalty + 1e-13 * hessian.diagonal().max())  # the latter for penalties that rounding swallows
        return torch.cholesky_inverse(torch.linalg.cholesky(hessian))


def _newton(problem: _Problem, shares: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """One subset's weights (1, dim) from shares (1, row), by damped Newton steps, and whether they have not converged."""
    used = shares[0] > 0
    problem, shares = replace(problem, features=problem.features[used], outputs=problem.outputs[used]), shares[:, used]
    most = problem.tolerance(shares)
    values, gradients = problem.at(weights, shares)
    for _ in range(NEWTON_STEPS):
        if gradients.norm() <= most:
            break
        directions = -gradients @ problem.inverse_hessian(weights, shares)
        weights, values, gradients = _step(problem, shares, weights, directions, values, gradients)
    return weights, bool(gradients.norm() > most)


def _descend(problem: _Problem, shares: torch.Tensor, centre: torch.Tensor, inverse: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (subset, dim) by L-BFGS from the centre or from zero, whichever is better, and which have not converged (subset,)."""
    most = problem.tolerance(shares)
    weights = centre.expand(len(shares), -1)
    from_zero = problem.at(torch.zeros_like(weights), shares)[0] <= problem.at(weights, shares)[0]
    weights = torch.where(from_zero[:, None], 0, weights)
    values, gradients = problem.at(weights, shares)
    history: list[tuple[torch.Tensor, torch.Tensor]] = []
    for _ in range(STEPS):
        is_open = gradients.norm(dim=1) > most
        if not is_open.any():
            break
        directions = torch.where(is_open[:, None], -_turn(gradients, inverse, history), 0)
        before, slopes = weights, gradients
        weights, values, gradients = _step(problem, shares, weights, directions, values, gradients)
        history = [*history[1 - MEMORY :], (weights - before, gradients - slopes)]
    return weights, gradients.norm(dim=1) > most


def _turn(gradients: torch.Tensor, inverse: torch.Tensor, history: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Gradients (subset, dim) times each subset's inverse Hessian, as the shared one and its own steps tell (two-loop recursion)."""
    used = []
    for step, change in reversed(history):
        product = (step * change).sum(1, keepdim=True)
        scale = torch.where(product > 1e-300, 1 / product, 0)  # none for a subset that stood still
        share = scale * (step * gradients).sum(1, keepdim=True)
        gradients = gradients - share * change
        used.append((step, change, scale, share))
    turned = gradients @ inverse
    if used:  # where the last step met less curvature than the shared one, as where rows are sure, steps are longer
        _, change, scale, _ = used[0]
        met = scale * ((change @ inverse) * change).sum(1, keepdim=True)
        turned = turned / torch.where(met > 0, met.clamp(max=1), 1)
    for step, change, scale, share in reversed(used):
        turned = turned + step * (share - scale * (change * turned).sum(1, keepdim=True))
    return turned


def _step(
    problem: _Problem, shares: torch.Tensor, weights: torch.Tensor, directions: torch.Tensor, values: torch.Tensor, gradients: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights, objectives and gradients after a step, halved for each subset until its objective is less, or where that is lost in rounding
    its gradient is."""
    after = weights + directions
    new_values, new_gradients = problem.at(after, shares)
    wanted = 1e-4 * (directions * gradients).sum(1)
    length = 1.0
    for _ in range(HALVINGS):
        is_flat = (new_values <= values + 1e-9 * values.abs()) & (new_gradients.norm(dim=1) < gradients.norm(dim=1))
        bad = torch.nonzero((new_values > values + length * wanted) & ~is_flat).flatten()
        if not len(bad):
            break
        length /= 2
        after[bad] = weights[bad] + length * directions[bad]
        new_values[bad], new_gradients[bad] = problem.at(after[bad], shares[bad])
    return after, new_values, new_gradients
