"""What a cell leaves in its folder: `result.json`, or `failed.json` where it came to nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsel.artifact import write_atomic

RESULT, FAILED = "result.json", "failed.json"


def write_failure(folder: Path, cell: Sequence[str], error: str, traceback: str, *, pruned: bool = False) -> None:
    """Write down why the `cell` (its overrides) failed, in one line and in full; `pruned` where a search ended it. Errors: OSError."""
    record = {"cell": list(cell), "error": error, "traceback": traceback, "pruned": pruned}
    write_atomic(folder / FAILED, json.dumps(record, indent=1))


def read_outcome(path: Path) -> dict[str, Any] | None:
    """What either file holds; None where there is no such file, or a broken one, which the report names."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None
