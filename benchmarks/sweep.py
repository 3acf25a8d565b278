"""What a sweep costs beyond its training: `python benchmarks/sweep.py [--cells 24]`. The last line is JSON.

- A cell that trains next to nothing, in a sweep of `--cells` of them: its seconds beyond those of its phases (start of the program,
  report and all), with `logger=csv` and with wandb offline.
- The sweep by joblib on all cores beside the one that runs cell after cell, in turns.
- The seconds from a second launch of a finished sweep to its end: all that is not a cell.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from table import Row, print_json, show

SMALL = [
    "model.num_layers=1", "model.dim=32", "model.num_heads=2", "model.context=64", "model.vocab_size=400", "trainer=debug",
    "data=docs_tiny", "data.num_workers=1", "steps.finetune=20", "+hydra.callbacks.report.images=false",
]  # fmt: skip
EVALUATED = [f"phases.{name}.eval_tokens=500" for name in ("pretrain", "continue", "finetune")]


def launch(outputs: Path, num_cells: int, steps: int, *more: str) -> float:
    """Run a sweep of that many cells in a process of its own; its seconds."""
    seeds = ",".join(str(seed) for seed in range(num_cells // 2))
    command = [
        sys.executable, "-m", "dsel.run", "experiment=demo", *SMALL, *EVALUATED, f"steps.total={steps}", "arm=random,dsir",
        f"seed={seeds}", f"paths.outputs={outputs}", *more,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "WANDB_SILENT": "true", "HOME": str(outputs)}
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return time.perf_counter() - started


def phases(outputs: Path) -> list[float]:
    """Seconds that each cell's phases took, by its own account."""
    found = [json.loads(path.read_text())["cost"]["seconds_here"] for path in sorted(outputs.glob("runs/demo/*/*/result.json"))]
    assert found, "the sweep left no result"
    return found


def overhead(outputs: Path, num_cells: int, logger: str) -> float:
    """Seconds a cell beyond its phases, in a sweep whose corpus is there already."""
    launch(outputs, 2, 10)
    before = sum(phases(outputs))
    seconds = launch(outputs, num_cells + 2, 10, f"logger={logger}")
    return (seconds - (sum(phases(outputs)) - before)) / num_cells


def main() -> None:
    """Measure, show, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=24)
    parser.add_argument("--steps", type=int, default=1000, help="of training, in the sweeps that run side by side")
    parser.add_argument("--quick", action="store_true", help="four cells of few steps")
    options = parser.parse_args()
    num, steps = (4, 20) if options.quick else (options.cells, options.steps)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        each = {logger: overhead(folder / logger, num, logger) for logger in ("none", "csv", "wandb")}
        again = launch(folder / "none", num + 2, 10) / (num + 2)
        pair = {"basic": [], "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]}
        for kind in pair:
            launch(folder / kind, 2, 10)
        seconds = {kind: launch(folder / kind, num, steps, *more) for kind, more in pair.items()}
    csv, none, wandb = each["csv"], each["none"], each["wandb"]
    basic, joblib = seconds["basic"], seconds["joblib"]
    rows = [
        Row("cell_csv", "a cell beyond its phases, logger=csv (s)", f"{csv:.2f}", f"none: {none:.2f}", csv, "below 3"),
        Row("wandb_more", "a cell with wandb offline (s more)", f"{wandb:.2f}", f"none: {none:.2f}", wandb - none, "below 2"),
        Row("again", "a finished cell, launched again (s)", f"{again:.2f}", "", again),
        Row("joblib", f"{num} cells by joblib, two at a time", f"{joblib:.1f} s", f"{basic:.1f} s", basic / joblib, "1.7"),
    ]
    show(rows, "A sweep")
    print_json(rows)


if __name__ == "__main__":
    main()
