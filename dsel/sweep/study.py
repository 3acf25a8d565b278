"""A search's study, in a file that all its cells share, and what a cell reports to it on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dsel.error import InputError, Pruned

STUDY = "study.log"
PRUNERS, SAMPLERS, DIRECTIONS = ("none", "median", "halving"), ("tpe", "random"), ("minimize", "maximize")


def open_study(folder: Path, pruner: str = "none", sampler: str = "tpe", direction: Any = "minimize", seed: int = 0) -> Any:
    """The study in `folder`, made where there is none. Errors: Optuna is not installed; an option that there is not."""
    for key, value, known in (("pruner", pruner, PRUNERS), ("sampler", sampler, SAMPLERS), ("direction", direction, DIRECTIONS)):
        if value not in known:
            raise InputError(f"hydra.sweeper.{key}={value}: must be one of {', '.join(known)}")
    try:
        import optuna
    except ImportError as error:
        raise InputError("hydra/sweeper=optuna: Optuna is not installed; pip install 'dsel[search]'") from error
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruners = {"none": optuna.pruners.NopPruner, "median": optuna.pruners.MedianPruner, "halving": optuna.pruners.SuccessiveHalvingPruner}
    samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    storage = JournalStorage(JournalFileBackend(str(folder / STUDY)))
    study = optuna.create_study(storage=storage, study_name=folder.name, load_if_exists=True, direction=direction, pruner=pruners[pruner]())
    study.sampler = samplers[sampler](seed=seed + len(study.trials))  # what goes on must not draw the same again
    return study


def reporter(folder: Path, number: int, sweeper: Mapping[str, Any]) -> Callable[[str, int, float], None]:
    """What a cell calls at each point of a curve, with phase, step and loss: it raises `Pruned` where the trial is hopeless."""
    from optuna.trial import Trial

    study = open_study(folder, sweeper["pruner"], sweeper["sampler"], sweeper["direction"], sweeper["seed"])
    trial = Trial(study, study.trials[number]._trial_id)

    def report(phase: str, step: int, value: float) -> None:
        if phase != sweeper["prune_phase"]:
            return
        trial.report(value, step)
        if trial.should_prune():
            raise Pruned(f"pruned in {phase} at step {step}: {value:.4g} is no better than what others had there")

    return report
