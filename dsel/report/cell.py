"""One cell of a sweep: its `result.json`, read and checked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsel.error import InputError
from dsel.outcome import RESULT

PRETRAIN = "pretrain"


@dataclass(frozen=True)
class Cell:
    """One run of a sweep: `folder` is relative to the sweep's, `home` is where its relative paths start."""

    folder: str
    home: Path
    record: Mapping[str, Any]

    @property
    def label(self) -> str:
        """The method, as the run named itself."""
        return str(self.record["label"])

    @property
    def seed(self) -> int:
        """Cells of one seed share their pretraining."""
        return int(self.record["seed"])

    @property
    def overrides(self) -> dict[str, Any]:
        """What the sweep varied, without the seed; Hydra's `+` marks taken off."""
        found = {key.lstrip("+~"): value for key, value in self.record.get("overrides", {}).items()}
        return {key: value for key, value in found.items() if key != "seed"}

    @property
    def phases(self) -> Mapping[str, Mapping[str, Any]]:
        """What each phase cost, in the order of the pipeline."""
        found: Mapping[str, Mapping[str, Any]] = self.record.get("cost", {}).get("phases", {})
        return found

    def artifact(self, phase: str) -> Path | None:
        """The folder of a phase's artifact, if the run names one."""
        path = self.record.get("artifacts", {}).get(phase)
        return None if path is None else self.home / path


def read_json(path: Path) -> Any:
    """The content of a JSON file. Errors: InputError when it cannot be read or parsed."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})") from error
    except ValueError as error:  # also a file that is not UTF-8
        raise InputError(f"is not JSON ({error})") from error


def read_record(path: Path) -> dict[str, Any]:
    """The result of a single run. Errors: a file that is none, named."""
    try:
        record = read_json(path)
    except InputError as error:
        raise InputError(f"{path}: {error}; run that experiment again") from error
    return record if isinstance(record, dict) else {}


def read_cell(path: Path, folder: Path, problems: list[str]) -> Cell | None:
    """The cell whose result is in the file `path`, under `folder`; None, and a line in `problems`, where it is none of dsel's."""
    name = str(path.parent.relative_to(folder))
    try:
        record = read_json(path)
        _check(record)
    except InputError as error:
        problems.append(f"{name}/{RESULT}: {error}; left out")
        return None
    return Cell(name, path.parent, record)


def _check(record: Any) -> None:
    if not isinstance(record, dict):
        raise InputError(f"is a {type(record).__name__}, not a mapping")
    if missing := [key for key in ("name", "label", "seed", "metrics") if key not in record]:
        raise InputError(f"is not a result of dsel: no {', '.join(missing)}")
    for key in ("metrics", "overrides", "cost", "report", "artifacts"):
        if not isinstance(record.get(key, {}), dict):
            raise InputError(f"{key} is a {type(record[key]).__name__}, not a mapping")
    if not isinstance(record["seed"], int):
        raise InputError(f"seed is {record['seed']!r}, not an integer")


def chosen_cost(phases: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """What selection and training cost without pretraining: chosen_flops and chosen_seconds, as far as phases say."""
    own = [cost for phase, cost in phases.items() if phase != PRETRAIN]
    return {
        f"chosen_{unit}": sum(cost.get(unit) or 0 for cost in own) for unit in ("flops", "seconds") if any(unit in cost for cost in own)
    }


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values; lists, and mappings with nothing in them, as they would be typed."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", plain(value)


def plain(value: Any) -> Any:
    """A scalar, or text for what is none."""
    return value if value is None or isinstance(value, str | bool | int | float) else json.dumps(value, default=str)
