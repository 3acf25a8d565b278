"""How far a training got, on disk: written whole or not at all, and read again after a kill. Nothing is pickled."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dsel.artifact import PART, hash_file
from dsel.error import InputError
from dsel.functional.tree import join, split

log = logging.getLogger("dsel")

TENSORS, STATE, STEP = "tensors.safetensors", "state.json", "step-"


@dataclass(frozen=True)
class Midway:
    """Checkpoints on the way of one training in `folder`, which outlives a kill: one every so many `minutes`, above 0."""

    folder: Path
    minutes: float

    def newest(self) -> tuple[dict[str, Any], datetime] | None:
        """The state last written, and when; None where there is none. One that is damaged is left aside, with a warning."""
        for path in sorted(self.folder.glob(f"{STEP}*[0-9]"), reverse=True):
            try:
                return _read(path), datetime.fromtimestamp((path / STATE).stat().st_mtime)  # as the user's clock has it
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
                log.warning(
                    "%s: this checkpoint is damaged (%s) and left aside; training goes on from the one before, or from the start",
                    path, " ".join(str(error).split()),
                )  # fmt: skip
        return None

    def write(self, step: int, state: Mapping[str, Any]) -> None:
        """Write the state after `step`; the one before goes when it is there. Errors: OSError, SafetensorError."""
        path = self.folder / f"{STEP}{step:09d}"
        unfinished = path.with_name(path.name + PART)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            plain, tensors = split(dict(state))
            save_file(tensors, unfinished / TENSORS)
            (unfinished / STATE).write_text(json.dumps({"tensors": hash_file(unfinished / TENSORS), "state": plain}), encoding="utf-8")
            shutil.rmtree(path, ignore_errors=True)  # a damaged one of the same step
            os.replace(unfinished, path)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        for other in self.folder.glob(f"{STEP}*"):
            if other != path:
                shutil.rmtree(other, ignore_errors=True)


def midway(config: Mapping[str, Any], folder: Path) -> Midway | None:
    """As `checkpoint_minutes` of the run's config says; None for never. Errors: it is no number, or below 0."""
    minutes = config.get("checkpoint_minutes")
    if minutes is not None and (isinstance(minutes, bool) or not isinstance(minutes, int | float) or not minutes >= 0):
        raise InputError(f"checkpoint_minutes={minutes}: must be a number of minutes, or null or 0 for never")
    return Midway(folder, minutes) if minutes else None


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Torch's, of this process and of the device that it trains on."""
    own = {} if device.type == "cpu" else {device.type: torch.get_device_module(device).get_rng_state()}
    return {"cpu": torch.get_rng_state(), **own}


def set_random_state(state: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """The reverse. A state of another kind of device is left aside."""
    torch.set_rng_state(state["cpu"].clone())
    if device.type != "cpu" and device.type in state:
        torch.get_device_module(device).set_rng_state(state[device.type].clone())


def _read(path: Path) -> dict[str, Any]:
    record = json.loads((path / STATE).read_text(encoding="utf-8"))
    if record["tensors"] != hash_file(path / TENSORS):
        raise ValueError(f"{TENSORS} is not what was written")
    state: dict[str, Any] = join(record["state"], load_file(path / TENSORS))
    return state
