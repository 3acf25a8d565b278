"""Models on the way through a training, for methods that look at how it went."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from dsel.artifact import PART
from dsel.context import Snapshot
from dsel.functional.alignment import trainable
from dsel.training.checkpoint import OPTIMIZER, load_model, load_names, load_training, save_model, save_training

FOLDER, RECORD = "snapshots", "snapshot.json"


def snapshot_steps(num_steps: int, num_snapshots: int) -> list[int]:
    """After which steps, evenly, the last at the end."""
    return sorted({round(num_steps * (number + 1) / num_snapshots) for number in range(num_snapshots)} - {0})


class Snapshots(pl.Callback):
    """Writes model and optimizer state into `folder` after some steps, with the mean learning rate since the snapshot before."""

    def __init__(self, steps: list[int], folder: Path) -> None:
        self.steps, self.folder = set(steps), folder
        self.taken, self.rates = 0, 0.0
        self.since = 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Remove what a killed training has written after the step that this one goes on from."""
        for place in self.folder.glob("*") if trainer.is_global_zero else ():
            if not place.name.isdigit() or int(place.name) > self.taken:
                shutil.rmtree(place)

    def state_dict(self) -> dict[str, Any]:
        """Steps and rates; the snapshots are on disk."""
        return {"taken": self.taken, "rates": self.rates, "since": self.since}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.taken, self.rates, self.since = state_dict["taken"], state_dict["rates"], state_dict["since"]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Count the step at the rate that it takes."""
        self.rates += float(trainer.optimizers[0].param_groups[0]["lr"])
        self.since += 1

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Write one when due."""
        self.taken += 1
        if self.taken in self.steps:
            self._write(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Training may end before its last step."""
        if self.since:
            self._write(trainer, pl_module)

    def _write(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            place = self.folder / f"{self.taken:08d}"
            unfinished = place.with_suffix(PART)
            unfinished.mkdir(parents=True)
            model: torch.nn.Module = pl_module.model  # type: ignore[assignment]
            save_model(model, unfinished)
            save_training(unfinished, self.taken, trainer.optimizers[0].state_dict(), list(trainable(model)))
            (unfinished / RECORD).write_text(json.dumps({"learning_rate": self.rates / self.since}), encoding="utf-8")
            os.replace(unfinished, place)
        self.rates, self.since = 0.0, 0


def copy_snapshots(folder: Path, into: Path) -> None:
    """Those in `folder`, by links where the file system has them: a kill leaves the ones or all."""
    if folder.is_dir():
        shutil.copytree(folder, into, copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def load_snapshots(checkpoint: Path) -> Iterator[Snapshot]:
    """Those of a training in the order of its steps; of a training that kept none its end, at a rate of 1."""
    places = sorted((checkpoint / FOLDER).iterdir()) if (checkpoint / FOLDER).is_dir() else [checkpoint]
    for place in places:
        model = load_model(place)
        record = {"learning_rate": 1.0}
        if (place / RECORD).is_file():
            record = json.loads((place / RECORD).read_text(encoding="utf-8"))
        has_state = (place / OPTIMIZER).is_file()
        names, state = (load_names(place), load_training(place)[1]["state"]) if has_state else (list(trainable(model)), {})
        moments = {
            name: (state[number]["exp_avg"], state[number]["exp_avg_sq"])
            for number, name in enumerate(names)
            if "exp_avg_sq" in state.get(number, {})
        }
        yield Snapshot(model, record["learning_rate"], names, moments)
