"""The program: `dsel experiment=NAME key=value ...`. Composes the config, runs one cell (or a sweep), writes result.json.

Imports nothing heavy: `--help` and mistakes in a key must answer at once.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig, OmegaConf

from dsel import cli

if TYPE_CHECKING:
    from dsel.pipeline import Run
    from dsel.state import State

log = logging.getLogger("dsel")

cli.register_resolvers()


@hydra.main(config_path=str(cli.CONF), config_name="config", version_base="1.3")
def app(config: DictConfig) -> float | None:
    """One cell, in the folder that Hydra made for it."""
    from hydra.core.hydra_config import HydraConfig

    runtime = HydraConfig.get()
    overrides = dict(o.lstrip("+~").split("=", 1) for o in runtime.overrides.task if "=" in o)
    overrides.pop("experiment", None)
    return run_cell(OmegaConf.to_container(config, resolve=True), Path(runtime.runtime.output_dir), overrides)  # type: ignore[arg-type]


def run_cell(config: dict[str, Any], folder: Path, overrides: dict[str, str]) -> float | None:
    """Run one cell unless its result is there already; returns the metric that `objective` names, for searches."""
    from dsel.artifact import Store, write_atomic
    from dsel.pipeline import Run
    from dsel.result import read_result, to_json
    from dsel.tracking import track

    run = Run(config)
    before = read_result(folder)
    if before is not None and before["fingerprint"] == run.fingerprint and "export" not in config["pipeline"]:
        log.info("nothing to do: %s holds the result of this very run", folder)
        result = before
    else:
        if before is not None:  # another config or code had the same overrides: keep what it found
            os.replace(folder / "result.json", folder / f"result.{before['fingerprint']}.json")
        log.info("%s", " ".join(f"{k}={v}" for k, v in overrides.items()) or config["name"])
        store = Store(Path(config["paths"]["artifacts"]).absolute())
        with track(config, folder, overrides) as tracker:
            state = run.fold(store)
            result = make_result(run, state, folder, overrides)
            write_atomic(folder / "result.json", to_json(result))
            tracker.log(result, state)
        log.info("result: %s", folder / "result.json")
    value = result["metrics"].get(config["objective"])
    return None if value is None else float(value)


def make_result(run: Run, state: State, folder: Path, overrides: dict[str, str]) -> dict[str, Any]:
    """What result.json holds: metrics, cost, config, versions, and where the artifacts are."""
    from dsel.result import git_commit, total_cost, versions

    config = dict(run.config)
    return {
        "name": config["name"],
        "label": config["label"],
        "seed": config["seed"],
        "fingerprint": run.fingerprint,
        "overrides": {key: cli.parse_value(value) for key, value in overrides.items()},
        "metrics": dict(state.metrics),
        "cost": total_cost(state),
        "report": config["report"],
        "config": config,
        "versions": versions(),
        "git_commit": git_commit(),
        "artifacts": {name: os.path.relpath(path, folder) for name, path in state.artifacts.items()},
    }


def main() -> None:
    """Entry point of `dsel`: errors that a user can mend are one line and exit code 1."""
    if len(sys.argv) == 1:
        print(cli.describe_jobs())
        return
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("0", "")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on instead of printing them; we print them below
    try:
        app()
    except Exception as error:
        line = cli.explain(error, sys.argv[1:])
        cli.report_unfinished(sys.argv[1:])
        if wants_traceback or line is None:  # a mistake of ours keeps its traceback
            raise
        print(f"error: {line}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
