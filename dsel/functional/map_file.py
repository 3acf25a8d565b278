"""Embedding space maps on disk, in the format of hf-dataset-selector: a folder with a map's tensors and its card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from dsel.artifact import write_atomic
from dsel.error import InputError
from dsel.functional.space_map import SpaceMap, Vectors

WEIGHTS, CONFIG, PICKLE = "model.safetensors", "config.json", "pytorch_model.bin"
VERSION = "0.2.1"  # of hf-dataset-selector, whose format the files have
LINEAR, BOTTLENECK = "linear", "bottleneck"
NAMES: dict[str, list[tuple[str, ...]]] = {  # of the tensors: layers in order, then the bias; the first are written
    LINEAR: [("model.weight", "model.bias"), ("sequential.0.weight", "sequential.0.bias")],  # the second are those of version 0.1.0
    BOTTLENECK: [("down.weight", "up.weight", "up.bias")],
}
NUMBERS = "penalty", "held_out_error"


def save(folder: Path, space_map: SpaceMap, card: Mapping[str, Any]) -> None:
    """Write a map of one width as a folder: `model.safetensors` in float32, and `config.json`. Each file is whole at any time.

    hf-dataset-selector reads maps of one layer. It knows no bottleneck, whose `esm_architecture` is "bottleneck", with the tensors
    down.weight (rank, dim), up.weight (dim, rank) and up.bias (dim,). The card states `base_model_name` and `task_id`, and what else
    there is to say in keys of its ESMConfig. Errors: a map that changes the number of dimensions, which the format has no place for,
    a card without the two.
    """
    shape = len(space_map.bias), space_map.width
    if shape[0] != shape[1]:
        raise InputError(f"map {shape}: the format holds maps of one width only; embed with models of one width")
    check_card(card, "card")
    architecture = LINEAR if len(space_map.layers) == 1 else BOTTLENECK
    arrays = zip(NAMES[architecture][0], (*space_map.layers, space_map.bias), strict=True)
    tensors = {name: torch.from_numpy(np.array(array, np.float32, order="C")) for name, array in arrays}
    facts: dict[str, Any] = {"esm_architecture": architecture, "esm_embedding_dim": shape[0], "version": VERSION}
    facts |= {key: value if np.isfinite(value := getattr(space_map, key)) else None for key in NUMBERS}
    text = json.dumps({**card, **facts}, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_atomic(folder / WEIGHTS, to_bytes(tensors, metadata={"format": "pt"}))
    write_atomic(folder / CONFIG, text + "\n")


def load(folder: Path) -> tuple[SpaceMap, dict[str, Any]]:
    """A map and its card, of a folder that `save` or hf-dataset-selector wrote; also in the names of its version 0.1.0.

    Errors: a file that is missing or cannot be read, another architecture, tensors of other names or shapes or not finite.
    """
    check_file(folder / WEIGHTS)
    card = read_card(folder)
    architecture = card.get("esm_architecture", LINEAR)
    if not isinstance(architecture, str) or architecture not in NAMES:
        raise InputError(f"{folder / CONFIG}: esm_architecture={architecture}; only {' and '.join(NAMES)} maps are read")
    numbers = [card.get(key) for key in NUMBERS]
    wrong = [f"{key}={value!r}" for key, value in zip(NUMBERS, numbers, strict=True) if not isinstance(value, float | int | None)]
    if wrong:
        raise InputError(f"{folder / CONFIG}: {wrong[0]}; must be a number or null")
    *layers, bias = _read_tensors(folder / WEIGHTS, architecture)
    return SpaceMap(tuple(layers), bias, *(float("nan") if value is None else float(value) for value in numbers)), card


def read_card(folder: Path) -> dict[str, Any]:
    """What `config.json` in a folder holds. Errors: it is missing, or cannot be read."""
    check_file(folder / CONFIG)
    try:
        card = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{folder / CONFIG}: cannot be read ({str(error).splitlines()[0]}); fetch it again") from error
    if not isinstance(card, dict):
        raise InputError(f"{folder / CONFIG}: holds a {type(card).__name__}; expected a map's card, with base_model_name and task_id")
    return card


def check_file(file: Path) -> None:
    """Errors: a map's file that is not there."""
    if not file.is_file():
        pickled = f"; {PICKLE} is a pickle, which is not read" if (file.parent / PICKLE).exists() else ""
        raise InputError(f"{file}: there is no such file{pickled}; give a folder with {WEIGHTS} and {CONFIG}")


def check_card(card: Mapping[str, Any], where: object) -> None:
    """Errors: a card that does not name its base model and its task."""
    for key in ("base_model_name", "task_id"):
        if not isinstance(card.get(key), str) or not card[key]:
            raise InputError(f"{where}: {key}={card.get(key)!r}; give its name")


def _read_tensors(file: Path, architecture: str) -> list[Vectors]:
    """A map's layers, and its bias."""
    try:
        tensors = load_file(file)
    except SafetensorError as error:
        raise InputError(f"{file}: cannot be read ({str(error).splitlines()[0]}); fetch it again") from error
    known = [names for names in NAMES[architecture] if set(tensors) == set(names)]
    if not known:
        raise InputError(f"{file}: holds {sorted(tensors)}; expected {' and '.join(NAMES[architecture][0])} of a {architecture} map")
    *layers, bias = arrays = [tensors[name].float().numpy() for name in known[0]]
    fit = all(layer.ndim == 2 for layer in layers) and all(after.shape[1] == before.shape[0] for before, after in pairwise(layers))
    if not fit or bias.shape != layers[-1].shape[:1]:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(known[0], arrays, strict=True))
        expected = "(dim, dim) and (dim,)" if architecture == LINEAR else "(rank, dim), (dim, rank) and (dim,)"
        raise InputError(f"{file}: {shapes}; expected {expected}")
    if not all(np.isfinite(array).all() for array in arrays):
        raise InputError(f"{file}: weight or bias is not finite; fit the map again")
    return arrays
