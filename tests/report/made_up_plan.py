"""The plan of a sweep of which some cells are done, as a launch would leave it."""

from __future__ import annotations

import json
from pathlib import Path


def write_plan(folder: Path, cells: list[str]) -> None:
    """`cells` are folders of the sweep; those with a result are done, the others wait."""
    folder.mkdir(parents=True, exist_ok=True)
    planned = [{"number": at, "folder": name, "overrides": name.replace("/", ",").split(",")} for at, name in enumerate(cells)]
    (folder / "sweep.json").write_text(json.dumps({"cells": planned, "launches": []}))
