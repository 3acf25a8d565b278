"""Embedding space maps (arXiv 2410.15148): the linear map from a base model's embeddings of texts to those of a tuned model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from dsel.error import InputError
from dsel.functional.finite import Embeddings, check_embeddings

Floats = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]
INIT, ORDER = range(2)  # streams of random numbers of a seed


@dataclass(frozen=True)
class SpaceMap:
    """x -> weight x + bias, for a bias (out,) and layers whose product is the weight: one (out, in), or a bottleneck's, first
    down (rank, in), then up (out, rank).

    `penalty` is what it was fitted with (`fit_ridge`; by `fit_sgd`, the weight decay) and `held_out_error` the mean squared error, per
    row and dimension, of a map fitted to the other rows; NaN where none was measured.
    """

    layers: tuple[Vectors, ...]
    bias: Vectors
    penalty: float = float("nan")
    held_out_error: float = float("nan")

    @property
    def weight(self) -> Vectors:
        """The layers' product (out, in)."""
        return reduce(lambda product, layer: layer @ product, self.layers)

    @property
    def width(self) -> int:
        """The dimensions of the embeddings that it takes."""
        return int(self.layers[0].shape[1])


def apply(space_map: SpaceMap, embeddings: Embeddings) -> Vectors:
    """Embeddings (row, in) mapped (row, out), in float32. Errors: another width than the map's, rows that are not finite."""
    embeddings, width = check_embeddings(embeddings, "base"), space_map.width
    if embeddings.shape[1] != width:
        raise InputError(f"embeddings: {embeddings.shape[1]} dimensions, the map takes {width}; embed with the model it was made for")
    mapped: Vectors = reduce(lambda rows, layer: rows @ layer.T, space_map.layers, embeddings.astype(np.float32)) + space_map.bias
    return mapped


def fit_ridge(
    base: Embeddings, tuned: Embeddings, penalties: Sequence[float], *, rank: int | None = None, held_out_share: float = 0.1, seed: int = 0
) -> SpaceMap:
    """The map with the least sum of squared errors plus penalty * |weight|^2, in closed form, of embeddings (row, in) and (row, out).

    With a `rank` below both widths it is the best bottleneck of that rank: Izenman's reduced-rank regression (1975), with the penalty of
    Mukherjee and Zhu (2011); a higher rank restricts nothing. The penalty is that of `penalties` with the least error on the held-out
    rows; ties go to the larger one. Then all rows are fitted. With one penalty `held_out_share` may be 0. Errors: rows that are not
    finite, unequal numbers of rows, no penalty above 0, a rank below 1.
    """
    base, tuned = _paired(base, tuned)
    rank = _narrow(rank, base, tuned)
    if not len(penalties) or not all(0 < penalty < np.inf for penalty in penalties):
        raise InputError(f"penalties={list(penalties)}: give one or more numbers above 0")
    if not held_out_share and len(set(penalties)) > 1:
        raise InputError(f"penalties={list(penalties)}: rows must be held out to choose among them; raise held_out_share=0")
    held = _held_out(len(base), held_out_share, seed)
    error, penalty = float("nan"), max(penalties)
    if held.any():
        ridge = _Ridge.of(base[~held], tuned[~held])
        error, opposite = min((ridge.error(penalty, rank, base[held], tuned[held]), -penalty) for penalty in penalties)
        penalty = -opposite
    layers, bias = _Ridge.of(base, tuned).solve(penalty, rank)
    single = tuple(np.ascontiguousarray(layer, np.float32) for layer in layers)
    return SpaceMap(single, bias.astype(np.float32), float(penalty), error)


@dataclass(frozen=True)
class _Ridge:
    """Spectrum (axis,) and axes (in, axis) of centred rows, their products (axis, out) with the centred targets, and both means."""

    spectrum: Floats
    axes: Floats
    products: Floats
    means: tuple[Floats, Floats]

    @staticmethod
    def of(base: Floats, tuned: Floats) -> _Ridge:
        means = base.mean(0), tuned.mean(0)
        centred = base - means[0]
        if len(base) > base.shape[1]:
            spectrum, axes = np.linalg.eigh(centred.T @ centred)
        else:
            _, singular, transposed = np.linalg.svd(centred, full_matrices=False)
            spectrum, axes = singular**2, transposed.T
        return _Ridge(spectrum.clip(0), axes, axes.T @ (centred.T @ (tuned - means[1])), means)

    def solve(self, penalty: float, rank: int | None) -> tuple[list[Floats], Floats]:
        """A map's layers and bias."""
        first, *others = self._factors(penalty, rank)
        layers = [(self.axes @ first).T, *(other.T for other in others)]
        return layers, self.means[1] - reduce(lambda row, layer: layer @ row, layers, self.means[0])

    def error(self, penalty: float, rank: int | None, base: Floats, tuned: Floats) -> float:
        """The mean squared error on other rows."""
        turned = (base - self.means[0]) @ self.axes
        mapped = reduce(np.matmul, self._factors(penalty, rank), turned) + self.means[1]
        return float(((mapped - tuned) ** 2).mean())

    def _factors(self, penalty: float, rank: int | None) -> list[Floats]:
        """What takes centred rows on the axes to centred targets: (axis, out), or (axis, rank) and (rank, out).

        The penalty is the error on more rows, sqrt(penalty) I with targets 0. The error of any weight on all rows is that of the full
        solution plus the squared distance of both fits: the best of a rank are the leading singular vectors of the full fit.
        """
        shrunk = (self.spectrum + penalty)[:, None]
        if rank is None:
            return [self.products / shrunk]
        left, singular, right = np.linalg.svd(self.products / np.sqrt(shrunk), full_matrices=False)
        root = np.sqrt(singular[:rank])
        return [left[:, :rank] * root / np.sqrt(shrunk), root[:, None] * right[:rank]]


@dataclass(frozen=True)
class Sgd:
    """How `fit_sgd` trains: AdamW with a learning rate that falls to 0 in a line, gradients clipped at a norm. As published."""

    learning_rate: float = 1e-3
    num_epochs: int = 10
    batch_size: int = 32
    weight_decay: float = 0.01
    max_norm: float = 1.0


def fit_sgd(
    base: Embeddings, tuned: Embeddings, how: Sgd | None = None, *, rank: int | None = None, held_out_share: float = 0.0, seed: int = 0
) -> SpaceMap:
    """A map trained to the least mean squared error between embeddings (row, in) and (row, out), in float32.

    With a `rank` below both widths, the two layers of a bottleneck are trained together; a higher rank restricts nothing. With a
    `held_out_share` above 0, another map is trained on the other rows first, for the error alone. Errors: as `fit_ridge`.
    """
    base, tuned = _paired(base, tuned)
    rank = _narrow(rank, base, tuned)
    how, held, error = how or Sgd(), _held_out(len(base), held_out_share, seed), float("nan")
    if min(how.num_epochs, how.batch_size) < 1 or not how.learning_rate > 0:
        raise InputError(f"{how}: epochs and batch size must be 1 or more, the learning rate above 0")
    if held.any():
        layers, bias = _train(base[~held], tuned[~held], how, rank, seed)
        mapped = reduce(lambda rows, layer: rows @ layer.T, layers, base[held]) + bias
        error = float(((mapped - tuned[held]) ** 2).mean())
    return SpaceMap(*_train(base, tuned, how, rank, seed), how.weight_decay, error)


def _train(base: Floats, tuned: Floats, how: Sgd, rank: int | None, seed: int) -> tuple[tuple[Vectors, ...], Vectors]:
    rows, targets = torch.from_numpy(base).float(), torch.from_numpy(tuned).float()
    parameters = _initial([rows.shape[1], *([rank] if rank else []), targets.shape[1]], seed)
    optimizer = torch.optim.AdamW(parameters, lr=how.learning_rate, weight_decay=how.weight_decay)
    generator = torch.Generator().manual_seed(2 * seed + ORDER)
    num_steps, step = how.num_epochs * -(-len(rows) // how.batch_size), 0
    *narrowing, last, bias = parameters
    for _ in range(how.num_epochs):
        order = torch.randperm(len(rows), generator=generator)
        for start in range(0, len(rows), how.batch_size):
            batch = order[start : start + how.batch_size]
            optimizer.param_groups[0]["lr"] = how.learning_rate * (1 - step / num_steps)
            optimizer.zero_grad()
            inputs = reduce(torch.nn.functional.linear, narrowing, rows[batch])
            loss = torch.nn.functional.mse_loss(torch.nn.functional.linear(inputs, last, bias), targets[batch])
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(parameters, how.max_norm)
            optimizer.step()
            step += 1
    *layers, offset = (parameter.detach().numpy() for parameter in parameters)
    return tuple(layers), offset


def _initial(widths: Sequence[int], seed: int) -> list[torch.Tensor]:
    """The layers' weights and the last one's bias, drawn as torch.nn.Linear draws them."""
    generator = torch.Generator().manual_seed(2 * seed + INIT)
    shapes = [((after, before), before) for before, after in pairwise(widths)] + [((widths[-1],), widths[-2])]
    return [((2 * torch.rand(shape, generator=generator) - 1) * num_inputs**-0.5).requires_grad_() for shape, num_inputs in shapes]


def _narrow(rank: int | None, base: Floats, tuned: Floats) -> int | None:
    """The rank, where it restricts a map between the two widths."""
    if rank is not None and rank < 1:
        raise InputError(f"rank={rank}: must be 1 or more, or none for the full map")
    return rank if rank is not None and rank < min(base.shape[1], tuned.shape[1]) else None


def _held_out(num_rows: int, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Which rows are held out (row,): none for a share of 0, else one at least."""
    if not 0 <= share < 1:
        raise InputError(f"held_out_share={share}: must be 0 or more and below 1")
    count = max(1, round(share * num_rows)) if share else 0
    if num_rows - count < 2:
        raise InputError(f"rows: {num_rows}, of which {count} held out (held_out_share={share}); two or more must be left to fit")
    held = np.zeros(num_rows, dtype=bool)
    held[np.random.default_rng(seed).permutation(num_rows)[:count]] = True
    return held


def _paired(base: Embeddings, tuned: Embeddings) -> tuple[Floats, Floats]:
    base, tuned = check_embeddings(base, "base"), check_embeddings(tuned, "tuned")
    if len(base) != len(tuned):
        raise InputError(f"embeddings: {len(base)} rows of the base model, {len(tuned)} of the tuned one; embed the same rows with both")
    return base.astype(np.float64), tuned.astype(np.float64)
