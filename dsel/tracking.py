"""Experiment trackers: curves, metrics, config and tables of a cell, to whatever `logger` names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from dsel.build import build

if TYPE_CHECKING:
    from dsel.state import State

FILES = ("selection.parquet", "composition.json", "scores.json", "curve.parquet")
REPORT = ("report.html", "table.csv", "table.md", "table.tex", "results.parquet", "figures/*")


@dataclass
class Tracker:
    """Writes to a Lightning logger; None tracks nothing. Curves are logged from the artifacts, so a cell that reuses a phase
    shows its curve all the same."""

    logger: Any
    parameters: Mapping[str, Any]

    def log(self, result: Mapping[str, Any], state: State) -> None:
        """All curves on one growing step axis, then the final metrics, and for wandb the files."""
        if self.logger is None:
            return
        import polars as pl

        offset = 0
        for name, folder in state.artifacts.items():
            curve = folder / "curve.parquet"
            rows = pl.read_parquet(curve).to_dicts() if curve.is_file() else []
            first = int(rows[0]["step"]) if rows else 0
            for row in rows:
                values = {f"{name}/{key}": value for key, value in row.items() if value is not None and key != "step"}
                self.logger.log_metrics(values, step=offset + int(row["step"]) - first)
            offset += int(rows[-1]["step"]) - first + 1 if rows else 0
        final = {f"final/{key}": value for key, value in result["metrics"].items()}
        self.logger.log_metrics(final, step=offset)
        if type(self.logger).__name__ == "TensorBoardLogger":  # its tab of hyper-parameters shows the metrics that are named with them
            self.logger.log_hyperparams(self.parameters, final)
        self.logger.save()
        if _is_wandb(self.logger):
            _log_files(self.logger.experiment, state)


@contextmanager
def track(config: Mapping[str, Any], folder: Path, overrides: Mapping[str, str]) -> Iterator[Tracker]:
    """A tracker that is closed at the end of the cell: the next cell of the sweep must not write into the same run."""
    logger = build(config["logger"], config["allow"]) if config["logger"] else None
    parameters = {"seed": config["seed"], "label": config["label"], "name": config["name"], **overrides}
    if logger is not None:
        logger.log_hyperparams(parameters)
    status = "failed"
    try:
        yield Tracker(logger, parameters)
        status = "success"
    finally:
        if logger is not None:
            logger.finalize(status)
            if _is_wandb(logger):
                logger.experiment.finish(exit_code=0 if status == "success" else 1)


class TrackReport(Callback):
    """A Hydra callback: after a sweep its report goes to wandb too, as an artifact of a run of its own in the sweep's group.

    `conf/config.yaml` names it before the report's callback, since Hydra calls the last first when a sweep ends.
    """

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Log the report's files, where cells were logged to wandb and there is a report."""
        folder = Path(config.hydra.sweep.dir).absolute()
        logger_config = OmegaConf.select(config, "logger")
        target = logger_config.get("_target_", "") if logger_config else ""
        if not target.endswith(".WandbLogger") or not (folder / "report.html").is_file():
            return
        config = deepcopy(config)
        with open_dict(config):
            config.logger.update(save_dir=str(folder), name="report", job_type="report")
        log_report(build(OmegaConf.to_container(config.logger, resolve=True), config.allow), config.name, folder)


def log_report(logger: Any, name: str, folder: Path) -> None:
    """The files of the report in `folder` as one wandb artifact `report-<name>`."""
    import wandb

    run, artifact = logger.experiment, wandb.Artifact(f"report-{name}", type="report")
    for pattern in REPORT:
        for file in sorted(folder.glob(pattern)):
            artifact.add_file(str(file), name=str(file.relative_to(folder)))
    run.log_artifact(artifact)
    run.finish()


def _is_wandb(logger: Any) -> bool:
    return type(logger).__name__ == "WandbLogger"


def _log_files(run: Any, state: State) -> None:
    """The selection as a table, and each phase's small files as one artifact of the run."""
    import polars as pl
    import wandb

    artifact = wandb.Artifact(f"phases-{run.id}", type="phases")
    for name, folder in state.artifacts.items():
        for file in FILES:
            if (folder / file).is_file():
                artifact.add_file(str(folder / file), name=f"{name}/{file}")
    run.log_artifact(artifact)
    chosen = next(
        (folder / "selection.parquet" for folder in state.artifacts.values() if (folder / "selection.parquet").is_file()),
        None,
    )
    if chosen is not None:
        frame = pl.read_parquet(chosen).filter(pl.col("selected")).sort("rank").head(1000)
        run.log({"selection": wandb.Table(columns=frame.columns, data=[list(row) for row in frame.iter_rows()])})
