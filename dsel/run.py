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
from dsel.outcome import FAILED, RESULT
from dsel.progress import here
from dsel.sweep.attendance import attend
from dsel.sweep.cells import has_failed_since_launch
from dsel.sweep.study import reporter

if TYPE_CHECKING:
    from dsel.pipeline import Run
    from dsel.state import State

log = logging.getLogger("dsel")
stopped: list[Exception] = []  # what ended a single run


def cell(config: DictConfig) -> float | None:
    """One cell, in the folder that Hydra made for it. An error is kept for `main`, so that a sweep's other cells go on."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    runtime = HydraConfig.get()
    overrides = {key: value.strip("'") for key, value in (o.lstrip("+~").split("=", 1) for o in runtime.overrides.task if "=" in o)}
    for key in ("experiment", "trial", "fail_fast", "checkpoint_minutes"):  # they make no other cell
        overrides.pop(key, None)
    folder, is_sweep = Path(runtime.runtime.output_dir), runtime.mode == RunMode.MULTIRUN
    if is_sweep and config.fail_fast and has_failed_since_launch(Path(runtime.sweep.dir)):
        log.info("left out, since another cell failed and fail_fast=true: %s", folder.name)
        return float("nan")
    try:
        with attend(folder):
            (folder / FAILED).unlink(missing_ok=True)
            here.report = None if config.trial is None else reporter(Path(runtime.sweep.dir), config.trial, runtime.sweeper)
            return run_cell(OmegaConf.to_container(config, resolve=True), folder, overrides)  # type: ignore[arg-type]
    except Exception as error:  # noqa: BLE001  # whatever it is: main shows it, with its traceback unless it is the user's
        if is_sweep:
            cli.record_failure(folder, overrides, error)
        else:
            stopped.append(error)
        return float("nan")  # a search takes it for a failed trial
    finally:
        here.report = None


app = hydra.main(config_path=str(cli.CONF), config_name="config", version_base="1.3")(cell)


def run_cell(config: dict[str, Any], folder: Path, overrides: dict[str, str]) -> float | None:
    """Run one cell unless its result is there already; returns the metric that `objective` names, for searches."""
    from dsel.artifact import Store, write_atomic
    from dsel.build import check
    from dsel.pipeline import Run
    from dsel.result import read_result, to_json
    from dsel.tracking import track

    check(config, config["allow"])
    run = Run(config)
    asked_for = {part for key in overrides for part in key.split(".")} & {"optimizer", "trainer"}
    if asked_for or any(phase.trains or phase.needs_checkpoint for phase in run.phases.values()):  # else they are never built
        check(config, config["allow"], released=True)
    before = read_result(folder)
    if before is not None and before["fingerprint"] == run.fingerprint and "export" not in config["pipeline"]:
        log.info("nothing to do: %s holds the result of this very run", folder)
        result = before
    else:
        run.check_outputs(finished=before is not None)
        if before is not None:  # another config or code had the same overrides: keep what it found
            os.replace(folder / RESULT, folder / f"result.{before['fingerprint']}.json")
        log.info("%s", " ".join(f"{k}={v}" for k, v in overrides.items()) or config["name"])
        store = Store(Path(config["paths"]["artifacts"]).absolute())
        with track(config, folder, overrides) as tracker:
            state = run.fold(store)
            result = make_result(run, state, folder, overrides)
            write_atomic(folder / RESULT, to_json(result))
            tracker.log(result, state)
        log.info("result: %s", folder / RESULT)
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
    os.environ[cli.TRACEBACKS] = os.environ.get("HYDRA_FULL_ERROR", "0")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands errors on instead of printing them; we print them below
    stopped.clear()
    cli.failures.clear()
    sys.argv[1:] = cli.quote(sys.argv[1:])
    try:
        cli.check_added(sys.argv[1:])
        app()
        if stopped:
            raise stopped[0]
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from what is finished", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        line = cli.explain(error, sys.argv[1:])
        if line is None or cli.wants_traceback():  # a mistake of ours keeps its traceback
            raise
        print(f"error: {line}", file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        os.environ["HYDRA_FULL_ERROR"] = os.environ[cli.TRACEBACKS]
    if cli.failures:
        print("\n".join(f"error: {line}" for line in cli.describe_failures(sys.argv[1:])), file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    from importlib import import_module

    import_module("dsel.run").main()  # not this one's: launchers send cells to processes that know `dsel.run` by its name
