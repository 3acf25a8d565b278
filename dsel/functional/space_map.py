"""Embedding space maps (arXiv 2410.15148): the linear map from a base model's embeddings of texts to those of a tuned model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dsel.error import InputError

Floats = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]
Embeddings: TypeAlias = "npt.NDArray[np.float32] | npt.NDArray[np.float64]"
WEIGHTS, CONFIG, PICKLE = "model.safetensors", "config.json", "pytorch_model.bin"
VERSION = "0.2.1"  # of hf-dataset-selector, whose format the files have
PREFIXES = "model", "sequential.0"  # of the tensors' names; the second is that of its version 0.1.0
INIT, ORDER = range(2)  # streams of random numbers of a seed


@dataclass(frozen=True)
class SpaceMap:
    """x -> weight x + bias, for a weight (out, in) and a bias (out,).

    `penalty` is what it was fitted with (`fit_ridge`; by `fit_sgd`, the weight decay) and `held_out_error` the mean squared error, per
    row and dimension, of a map fitted to the other rows; NaN where none was measured.
    """

    weight: Vectors
    bias: Vectors
    penalty: float = float("nan")
    held_out_error: float = float("nan")


def apply(space_map: SpaceMap, embeddings: Embeddings) -> Vectors:
    """Embeddings (row, in) mapped (row, out), in float32. Errors: another width than the map's, rows that are not finite."""
    embeddings, width = _checked("base", embeddings), space_map.weight.shape[1]
    if embeddings.shape[1] != width:
        raise InputError(f"embeddings: {embeddings.shape[1]} dimensions, the map takes {width}; embed with the model it was made for")
    mapped: Vectors = embeddings.astype(np.float32) @ space_map.weight.T + space_map.bias
    return mapped


def fit_ridge(base: Embeddings, tuned: Embeddings, penalties: Sequence[float], *, held_out_share: float = 0.1, seed: int = 0) -> SpaceMap:
    """The map with the least sum of squared errors plus penalty * |weight|^2, in closed form, of embeddings (row, in) and (row, out).

    The penalty is that of `penalties` with the least error on the held-out rows; ties go to the larger one. Then all rows are
    fitted. With one penalty `held_out_share` may be 0. Errors: rows that are not finite, unequal numbers of rows, no penalty above 0.
    """
    base, tuned = _paired(base, tuned)
    if not len(penalties) or not all(0 < penalty < np.inf for penalty in penalties):
        raise InputError(f"penalties={list(penalties)}: give one or more numbers above 0")
    if not held_out_share and len(set(penalties)) > 1:
        raise InputError(f"penalties={list(penalties)}: rows must be held out to choose among them; raise held_out_share=0")
    held = _held_out(len(base), held_out_share, seed)
    error, penalty = float("nan"), max(penalties)
    if held.any():
        ridge = _Ridge.of(base[~held], tuned[~held])
        error, opposite = min((ridge.error(penalty, base[held], tuned[held]), -penalty) for penalty in penalties)
        penalty = -opposite
    weight, bias = _Ridge.of(base, tuned).solve(penalty)
    return SpaceMap(np.ascontiguousarray(weight, np.float32), bias.astype(np.float32), float(penalty), error)


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

    def solve(self, penalty: float) -> tuple[Floats, Floats]:
        weight = (self.axes @ (self.products / (self.spectrum + penalty)[:, None])).T
        return weight, self.means[1] - weight @ self.means[0]

    def error(self, penalty: float, base: Floats, tuned: Floats) -> float:
        """The mean squared error on other rows."""
        turned = (base - self.means[0]) @ self.axes
        mapped = turned / (self.spectrum + penalty) @ self.products + self.means[1]
        return float(((mapped - tuned) ** 2).mean())


@dataclass(frozen=True)
class Sgd:
    """How `fit_sgd` trains: AdamW with a learning rate that falls to 0 in a line, gradients clipped at a norm. As published."""

    learning_rate: float = 1e-3
    num_epochs: int = 10
    batch_size: int = 32
    weight_decay: float = 0.01
    max_norm: float = 1.0


def fit_sgd(base: Embeddings, tuned: Embeddings, how: Sgd | None = None, *, held_out_share: float = 0.0, seed: int = 0) -> SpaceMap:
    """A map trained to the least mean squared error between embeddings (row, in) and (row, out), in float32.

    With a `held_out_share` above 0, another map is trained on the other rows first, for the error alone. Errors: as `fit_ridge`.
    """
    base, tuned = _paired(base, tuned)
    how, held, error = how or Sgd(), _held_out(len(base), held_out_share, seed), float("nan")
    if min(how.num_epochs, how.batch_size) < 1 or not how.learning_rate > 0:
        raise InputError(f"{how}: epochs and batch size must be 1 or more, the learning rate above 0")
    if held.any():
        weight, bias = _train(base[~held], tuned[~held], how, seed)
        error = float(((base[held] @ weight.T + bias - tuned[held]) ** 2).mean())
    return SpaceMap(*_train(base, tuned, how, seed), how.weight_decay, error)


def _train(base: Floats, tuned: Floats, how: Sgd, seed: int) -> tuple[Vectors, Vectors]:
    rows, targets = torch.from_numpy(base).float(), torch.from_numpy(tuned).float()
    generator, bound = torch.Generator().manual_seed(2 * seed + INIT), rows.shape[1] ** -0.5
    weight, bias = (
        ((2 * torch.rand(shape, generator=generator) - 1) * bound).requires_grad_()
        for shape in ((targets.shape[1], rows.shape[1]), targets.shape[1])
    )
    optimizer = torch.optim.AdamW([weight, bias], lr=how.learning_rate, weight_decay=how.weight_decay)
    generator = torch.Generator().manual_seed(2 * seed + ORDER)
    num_steps, step = how.num_epochs * -(-len(rows) // how.batch_size), 0
    for _ in range(how.num_epochs):
        order = torch.randperm(len(rows), generator=generator)
        for start in range(0, len(rows), how.batch_size):
            batch = order[start : start + how.batch_size]
            optimizer.param_groups[0]["lr"] = how.learning_rate * (1 - step / num_steps)
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(torch.nn.functional.linear(rows[batch], weight, bias), targets[batch])
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_([weight, bias], how.max_norm)
            optimizer.step()
            step += 1
    return weight.detach().numpy(), bias.detach().numpy()


def save(folder: Path, space_map: SpaceMap, card: Mapping[str, Any]) -> None:
    """Write a map (dim, dim) as a folder that hf-dataset-selector reads: `model.safetensors` in float32, and `config.json`.

    The card states `base_model_name` and `task_id`, and what else there is to say in keys of its ESMConfig. Errors: a map that changes
    the number of dimensions, which the format has no place for, a card without the two.
    """
    if space_map.weight.shape[0] != space_map.weight.shape[1]:
        raise InputError(f"map {space_map.weight.shape}: the format holds maps of one width only; embed with models of one width")
    for key in ("base_model_name", "task_id"):
        if not isinstance(card.get(key), str) or not card[key]:
            raise InputError(f"card: {key}={card.get(key)!r}; give its name")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: torch.from_numpy(np.array(getattr(space_map, name), np.float32, order="C")) for name in ("weight", "bias")}
    save_file({f"{PREFIXES[0]}.{name}": tensor for name, tensor in tensors.items()}, folder / WEIGHTS, metadata={"format": "pt"})
    numbers = {key: value if np.isfinite(value := getattr(space_map, key)) else None for key in ("penalty", "held_out_error")}
    shape = {"esm_architecture": "linear", "esm_embedding_dim": len(space_map.bias), "version": VERSION}
    text = json.dumps({**card, **shape, **numbers}, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def load(folder: Path) -> tuple[SpaceMap, dict[str, Any]]:
    """A map and its card, of a folder that `save` or hf-dataset-selector wrote; also in the names of its version 0.1.0.

    Errors: a file that is missing or cannot be read, an architecture that is not linear, tensors of other names or shapes.
    """
    for file in (folder / WEIGHTS, folder / CONFIG):
        if not file.is_file():
            pickled = f"; {PICKLE} is a pickle, which is not read" if (folder / PICKLE).exists() else ""
            raise InputError(f"{file}: there is no such file{pickled}; give a folder with {WEIGHTS} and {CONFIG}")
    try:
        tensors, card = load_file(folder / WEIGHTS), json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{folder}: cannot be read ({str(error).splitlines()[0]}); fetch it again") from error
    if not isinstance(card, dict) or card.get("esm_architecture", "linear") != "linear":
        found = card.get("esm_architecture") if isinstance(card, dict) else type(card).__name__
        raise InputError(f"{folder / CONFIG}: esm_architecture={found}; only linear maps are read")
    known = [prefix for prefix in PREFIXES if set(tensors) == {f"{prefix}.weight", f"{prefix}.bias"}]
    if not known:
        raise InputError(f"{folder / WEIGHTS}: holds {sorted(tensors)}; expected {PREFIXES[0]}.weight and {PREFIXES[0]}.bias")
    weight, bias = (tensors[f"{known[0]}.{name}"].float().numpy() for name in ("weight", "bias"))
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise InputError(f"{folder / WEIGHTS}: weight {weight.shape}, bias {bias.shape}; expected (dim, dim) and (dim,)")
    if not np.isfinite(weight).all() or not np.isfinite(bias).all():
        raise InputError(f"{folder / WEIGHTS}: weight or bias is not finite; fit the map again")
    numbers = [float("nan") if card.get(key) is None else float(card[key]) for key in ("penalty", "held_out_error")]
    return SpaceMap(weight, bias, *numbers), card


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
    base, tuned = _checked("base", base), _checked("tuned", tuned)
    if len(base) != len(tuned):
        raise InputError(f"embeddings: {len(base)} rows of the base model, {len(tuned)} of the tuned one; embed the same rows with both")
    return base.astype(np.float64), tuned.astype(np.float64)


def _checked(name: str, embeddings: Embeddings) -> Embeddings:
    if np.ndim(embeddings) != 2 or not np.size(embeddings):
        raise InputError(f"{name} embeddings: shape {np.shape(embeddings)}; expected (row, dim), one or more of both")
    bad = np.flatnonzero(~np.isfinite(embeddings).all(1))
    if len(bad):
        raise InputError(f"row {bad[0]}: its {name} embedding is not finite ({len(bad)} rows in all); leave it out")
    return embeddings
