"""A run that has ended, as others go on from it: its config, corpus, tokenizer and checkpoints, where they stand on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dsel.artifact import DONE
from dsel.error import InputError
from dsel.outcome import RESULT

CORPUS, TOKENIZER, WEIGHTS = "corpus", "tokenizer", "model"


@dataclass(frozen=True)
class Finished:
    """The run in `folder`, as its result.json tells. `key` is the config's name for it, for errors."""

    folder: Path
    key: str

    @cached_property
    def record(self) -> dict[str, Any]:
        """What result.json holds. Errors: there is none, or it is none of dsel's."""
        path = self.folder / RESULT
        if not path.is_file():
            inside = sorted(str(each.parent) for each in self.folder.rglob(RESULT))[:3] if self.folder.is_dir() else []
            hint = f"; runs in it are {', '.join(inside)}" if inside else "; give the folder that a run's last line names (result: ...)"
            what = "holds no result.json" if self.folder.is_dir() else "no such folder"
            raise InputError(f"{self.key}={self.folder}: {what}{hint}")
        try:
            record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            record["fingerprint"], record["config"], record["artifacts"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: not a result of dsel ({error}); run that experiment again") from error
        return record

    @property
    def config(self) -> Mapping[str, Any]:
        """The run's, resolved."""
        config: Mapping[str, Any] = self.record["config"]
        return config

    @cached_property
    def artifacts(self) -> dict[str, Path]:
        """Its artifacts' folders by phase, in the order in which they came to be. Errors: one is gone."""
        found = {name: Path(self.folder, place).resolve() for name, place in self.record["artifacts"].items()}
        for name, folder in found.items():
            if not (folder / DONE).is_file():
                raise InputError(f"{self.key}={self.folder}: its artifact {name} is gone ({folder}); run that experiment again")
        return found

    @property
    def kept(self) -> dict[str, Path]:
        """What others go on from: corpus, tokenizer, and trained models."""
        return {name: folder for name, folder in self.artifacts.items() if name in (CORPUS, TOKENIZER) or name in self.checkpoints}

    @property
    def model(self) -> Any:
        """The config of the run's model, or where it went on from another, of that one's."""
        data = self.config.get("data") or {}
        if self.config.get("model") is None and str(data.get("_target_", "")).endswith(".OfRun"):
            return Finished(Path(data["run"]).expanduser(), self.key).model
        return self.config.get("model")

    def place(self, name: str) -> Path:
        """The folder of the corpus or the tokenizer. Errors: the run did not keep it."""
        if name not in self.artifacts:
            raise InputError(
                f"{self.key}={self.folder}: the run did not write down where its {name} is; run it again with this dsel, and with a model"
            )
        return self.artifacts[name]

    @cached_property
    def checkpoints(self) -> dict[str, Path]:
        """Folders of trained models by phase, in order. Errors: there is none."""
        found = {name: folder for name, folder in self.artifacts.items() if (folder / WEIGHTS).is_dir()}
        if not found:
            raise InputError(f"{self.key}={self.folder}: the run trained no model ({', '.join(self.artifacts)}); give one that did")
        return found
