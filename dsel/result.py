"""result.json: what a cell found, what it cost, and what it ran on."""

from __future__ import annotations

import json
import math
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from dsel.error import InputError
from dsel.functional.cores import num_cores
from dsel.functional.peak_memory import peak_mb
from dsel.outcome import RESULT
from dsel.state import State

RECORDED = (
    "dsel",
    "torch",
    "transformers",
    "pytorch-lightning",
    "hydra-core",
    "tokenizers",
    "scikit-learn",
    "numpy",
    "pyarrow",
)
COSTS = ("seconds", "tokens", "optimizer_steps", "scoring_passes", "flops")


def read_result(folder: Path) -> dict[str, Any] | None:
    """The result in `folder`, or None. Errors: a file that is no result."""
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        result["fingerprint"], result["metrics"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a result of dsel ({error}); move it away and run again") from error
    return result


def to_json(result: dict[str, Any]) -> str:
    """JSON with null where a number is not finite."""
    return json.dumps(_finite(result), indent=1, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def total_cost(state: State) -> dict[str, Any]:
    """Sums over phases, as if none had been found on disk (`seconds_here` is what this run itself took), and the machine."""
    phases = {name: dict(cost) for name, cost in state.cost.items()}
    totals = {key: sum(float(cost.get(key, 0)) for cost in phases.values()) for key in COSTS}
    here = sum(float(cost["seconds"]) for cost in phases.values() if not cost.get("reused"))
    return {**totals, "seconds_here": here, "peak_memory_mb": round(peak_mb()), "device": _device(), "phases": phases}


def _device() -> str:
    """The machine in words. Who has not imported torch has not used a GPU."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"{platform.machine()} cpu x {torch.get_num_threads() if torch is not None else num_cores()}"


@cache
def versions() -> dict[str, str]:
    """Of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in RECORDED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


@cache
def git_commit() -> str | None:
    """Commit of the code that runs, with "+" behind it where there are changes; None outside a checkout."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run(["git", "-C", str(root), "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if changes.stdout.strip() else "")
