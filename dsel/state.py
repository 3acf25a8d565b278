"""What one phase hands to the next, and what a run stands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dsel.scores import Scores
from dsel.selection import Selection


@dataclass(frozen=True)
class State:
    """Results by phase name. A phase returns a new state; nothing is changed in place."""

    fingerprint: str
    artifacts: Mapping[str, Path] = field(default_factory=dict)  # phase name -> its folder
    checkpoints: Mapping[str, Path] = field(default_factory=dict)  # phase name -> folder with weights
    scores: Scores | None = None
    selection: Selection | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # phase name -> seconds, tokens, steps ...

    def with_metrics(self, **metrics: float) -> State:
        """This state with `metrics` added."""
        return replace(self, metrics={**self.metrics, **metrics})

    def with_checkpoint(self, name: str, folder: Path) -> State:
        """This state with the checkpoint of phase `name`, now the newest."""
        return replace(self, checkpoints={**self.checkpoints, name: folder})

    def checkpoint_of(self, name: str | None) -> Path | None:
        """Folder of the checkpoint of phase `name`, or of the newest; None where that phase has not trained."""
        name = name or self.newest_checkpoint()
        return None if name is None else self.checkpoints.get(name)

    def newest_checkpoint(self) -> str | None:
        """Name of the phase that trained last."""
        return list(self.checkpoints)[-1] if self.checkpoints else None

    def find(self, file: str) -> Path | None:
        """Folder of the newest phase that has left a file of this name; None where none has."""
        return next((folder for folder in reversed(list(self.artifacts.values())) if (folder / file).is_file()), None)
