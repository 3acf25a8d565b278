"""The Gauss-Newton curvature of linear layers as Kronecker products, a block a layer: K-FAC (arXiv 1503.05671), EK-FAC (1806.03884)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from dsel.error import InputError
from dsel.functional.curvature import TrainingLoss, Vectors
from dsel.functional.ghost import Tape
from dsel.functional.ghost_calls import Call
from dsel.functional.inverse_curvature import Report
from dsel.functional.low_rank import Bases, LowRank
from dsel.functional.output_gradients import by_labels
from dsel.functional.tracked import Tracked, only_trained

Damp = Callable[[str, float], float]
"""From a weight's name and the mean of its eigenvalues to what is added to each."""
PANEL = 128  # columns
PARTS = ("outputs", "inputs", "values", "output_values", "input_values")


@dataclass(frozen=True)
class Factors:
    """A layer's curvature in its eigenbasis: `outputs` (out, out), `inputs` (in, in), where there is a bias with a last input that is 1,
    and `values` (out, in). Of the mean loss over tokens. `output_values` (out,) and `input_values` (in,) are those of the covariances of
    gradients at outputs and of inputs."""

    layer: Tracked
    outputs: torch.Tensor
    inputs: torch.Tensor
    values: torch.Tensor
    output_values: torch.Tensor
    input_values: torch.Tensor

    def turned(self, matrices: torch.Tensor) -> torch.Tensor:
        """Matrices (vector, out, in) in the eigenbasis."""
        return self.outputs.T @ (matrices @ self.inputs)

    def back(self, matrices: torch.Tensor) -> torch.Tensor:
        """The reverse."""
        return self.outputs @ matrices @ self.inputs.T

    def block(self, rows: torch.Tensor, columns: torch.Tensor) -> Factors:
        """What there is of these directions of outputs and inputs, by number."""
        outputs, inputs, values = self.outputs[:, rows], self.inputs[:, columns], self.values[rows][:, columns]
        return Factors(self.layer, outputs, inputs, values, self.output_values[rows], self.input_values[columns])

    @property
    def bases(self) -> Bases:
        """The eigenbasis."""
        if self.layer.bias is None:
            return Bases(self.outputs, self.inputs, None, None, self.layer.is_transposed)
        return Bases(self.outputs, self.inputs[:-1], self.inputs[-1], self.layer.bias, self.layer.is_transposed)


@dataclass
class Kronecker:
    """The inverse of the blocks with `damp` added to their eigenvalues; None: a tenth of a block's mean."""

    factors: list[Factors]
    damp: Damp
    reports: list[Report] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Of the parameters that it is of."""
        return [name for factors in self.factors for name in factors.layer.names]

    def solve(self, vectors: Mapping[str, torch.Tensor]) -> Vectors:
        """Exact, of this curvature. Errors: vectors of parameters that it is not of."""
        if strange := [name for name in vectors if name not in self.names]:
            raise InputError(f"curvature=ekfac: {strange[0]} ({len(strange)} such parameters) is not of a linear layer that is tracked")
        solved, found = self.solve_turned(self.turned(vectors)), Vectors()
        for factors in self.factors:
            found |= factors.layer.split(factors.back(solved[factors.layer.weight]))
        return found

    def leading(self, rank: int, solved: Mapping[str, torch.Tensor] | None = None) -> Kronecker:
        """The part of the inverse through which most of scores passes: of each layer the directions of outputs and of inputs along which
        squares of the `solved` vectors (None: of gradients like the training data's, preconditioned) times squared gradients are largest.
        Layers and sides share a threshold: `rank` is the number of directions that a side has on average. Gradients vary along fewer inputs
        than outputs, and in some layers more."""
        sides = []
        for factors in self.factors:
            if solved is None:
                squares = factors.values / (factors.values + self.damping(factors)).square()
            else:
                squares = factors.turned(factors.layer.join(solved)).square().sum(0)
            energy = squares * torch.outer(factors.output_values, factors.input_values)
            sides += [energy.sum(1), energy.sum(0)]
        ordered = torch.cat(sides).sort(descending=True).values
        least = ordered[min(rank * len(sides), len(ordered)) - 1]
        kept = [torch.nonzero(side >= torch.minimum(least, side.max())).flatten() for side in sides]  # of each one at least
        blocks = [factors.block(*pair) for factors, pair in zip(self.factors, zip(kept[::2], kept[1::2], strict=True), strict=True)]
        damping = {factors.layer.weight: self.damping(factors) for factors in self.factors}
        return Kronecker(blocks, lambda name, _: damping[name])

    @property
    def bases(self) -> dict[str, Bases]:
        """The eigenbases by the layers' weights: after `leading`, of few directions."""
        return {factors.layer.weight: factors.bases for factors in self.factors}

    def low_rank(self, cores: Mapping[str, torch.Tensor]) -> dict[str, LowRank]:
        """Vectors from what they are along the eigenbases (vector, rows, columns)."""
        return {name: LowRank(bases, cores[name]) for name, bases in self.bases.items()}

    def at_low_rank(self, vectors: Mapping[str, torch.Tensor]) -> dict[str, LowRank]:
        """What there is of vectors along the eigenbases."""
        return self.low_rank(self.turned(vectors))

    def turned(self, vectors: Mapping[str, torch.Tensor]) -> Vectors:
        """Vectors along the eigenbases (vector, rows, columns), by the layers' weights."""
        return {factors.layer.weight: factors.turned(factors.layer.join(vectors)) for factors in self.factors}

    def solve_turned(self, cores: Mapping[str, torch.Tensor]) -> Vectors:
        """As `solve`, of vectors along the eigenbases, which they stay along."""
        self.reports.append(Report("a Kronecker product"))
        return {each.layer.weight: cores[each.layer.weight] / (each.values + self.damping(each)) for each in self.factors}

    def times(self, vectors: Mapping[str, torch.Tensor]) -> Vectors:
        """The damped curvature itself."""
        found: Vectors = {}
        for factors in self.factors:
            turned = factors.turned(factors.layer.join(vectors))
            found |= factors.layer.split(factors.back(turned * (factors.values + self.damping(factors))))
        return found

    def damping(self, factors: Factors) -> float:
        """What is added to a layer's eigenvalues."""
        return self.damp(factors.layer.weight, float(factors.values.mean()))


def fit_factors(loss: TrainingLoss, layers: list[Tracked], labels: str, seed: int, is_corrected: bool = True) -> list[Factors]:
    """Factors of each layer. One pass over the data for the covariances of inputs and of gradients at outputs, and with `is_corrected`
    (EK-FAC) one more for the eigenvalues: the mean squared gradients in the eigenbasis, rather than products of the covariances'.

    `labels` of which gradients are: "sampled" from the model (the curvature; drawn by row and `seed`), "empirical" those of the data,
    "exact" a pass for every class and place, for small models. Tokens at which a layer's gradient is 0, such as padding, do not count.
    Errors: gradients that are not finite.
    """
    sums = {layer.weight: layer.empty_covariances() for layer in layers}
    counts = dict.fromkeys(sums, 0.0)
    for layer, calls in _calls(loss, layers, labels, seed):
        outputs, inputs = sums[layer.weight]
        for call in calls:
            y, x = layer.rows(call)
            real = (y != 0).any(1)
            y, x = (y, x) if bool(real.all()) else (y[real], x[real])
            _add_gram(outputs, y)
            _add_gram(inputs, x)
            counts[layer.weight] += len(y)
    found = []
    for layer in layers:
        outputs, inputs = (each / max(counts[layer.weight], 1e-30) for each in sums[layer.weight])
        (b, q_out), (a, q_in) = (_eigen(each, layer) for each in (outputs, inputs))
        found.append(Factors(layer, q_out, q_in, torch.outer(b, a) * (counts[layer.weight] / loss.num_tokens), b, a))
    return _corrected(found, loss, labels, seed + 1) if is_corrected else found


def _corrected(factors: list[Factors], loss: TrainingLoss, labels: str, seed: int) -> list[Factors]:
    by_layer = {each.layer.weight: each for each in factors}
    sums = {name: torch.zeros_like(each.values) for name, each in by_layer.items()}
    for layer, calls in _calls(loss, [each.layer for each in factors], labels, seed):
        own = by_layer[layer.weight]
        gradients = _turned_gradients(layer, calls[0], own)
        for call in calls[1:]:  # of a weight that several layers share
            gradients += _turned_gradients(layer, call, own)
        sums[layer.weight] += gradients.square_().sum(0)
    return [replace(each, values=sums[each.layer.weight] / loss.num_tokens) for each in factors]


def _turned_gradients(layer: Tracked, call: Call, own: Factors) -> torch.Tensor:
    """Each example's gradient in the eigenbasis (example, out, in): its tokens are turned, or the gradient, whichever is less work."""
    y, x = layer.tokens(call)
    (time, num_out), num_in = y.shape[1:], x.shape[2]
    if time * (num_out**2 + num_in**2) < num_out * num_in * (num_out + num_in):
        return (y @ own.outputs).mT @ (x @ own.inputs)
    return own.turned(y.mT @ x)


def _calls(loss: TrainingLoss, layers: list[Tracked], labels: str, seed: int) -> Iterator[tuple[Tracked, list[Call]]]:
    """For each pass over each batch, the calls of each layer."""
    model = loss.model
    names = [name for layer in layers for name in layer.names]
    with only_trained(model, names):
        for batch in loss.batches:
            for run in by_labels(loss.objective, model, batch, labels, seed):
                with Tape(model) as tape:
                    tape.begin(len(loss.objective.predicted(batch)))
                    tape.backward(*run())
                uses = tape.batches[0].by_parameter(None)
                with torch.no_grad():
                    for layer in layers:
                        if calls := [call for call, _ in uses.get(layer.weight, [])]:
                            yield layer, calls


def _add_gram(sums: torch.Tensor, rows: torch.Tensor) -> None:
    """Add rows^T rows (column, column), where it is on and above the diagonal: of a wide matrix nearly half of the work."""
    for first in range(0, len(sums), PANEL):
        own = rows[:, first : first + PANEL]
        sums[first : first + PANEL, first:].addmm_(own.T, rows[:, first:])


def _eigen(covariance: torch.Tensor, layer: Tracked) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues and vectors of what is on and above the diagonal, in float64 and back."""
    if not bool(torch.isfinite(covariance).all()):
        raise InputError(f"curvature: the gradients at layer {layer.weight} are not finite; train with a lower optimizer.lr")
    values, vectors = torch.linalg.eigh(covariance.double(), UPLO="U")
    return values.clamp_min(0).to(covariance.dtype), vectors.to(covariance.dtype)


def save_factors(factors: list[Factors], path: Path) -> None:
    """Write them as safetensors."""
    save_file({f"{each.layer.weight}/{part}": getattr(each, part).contiguous() for each in factors for part in PARTS}, path)


def load_factors(layers: list[Tracked], path: Path) -> list[Factors]:
    """Those that were written of these layers."""
    arrays = load_file(path)
    return [Factors(layer, *(arrays[f"{layer.weight}/{part}"].to(layer.like) for part in PARTS)) for layer in layers]
