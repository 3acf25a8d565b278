"""A launcher of cells on a Ray cluster: a task a cell. The plugin of Hydra's own pins packages that others need newer."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, configure_log, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from dsel.error import InputError

log = logging.getLogger("dsel")

SHARED = ("DSEL_OUTPUTS", "HYDRA_FULL_ERROR", "DSEL_TRACEBACKS", "OMP_NUM_THREADS", "WANDB_API_KEY", "WANDB_MODE")


class RayLauncher(Launcher):
    """Each cell is a task with `cpus_per_cell` CPUs and `gpus_per_cell` GPUs. `address`: null starts a cluster on this machine, which
    ends with the sweep; "auto" is the one that this machine belongs to. All nodes need the same dsel and one file system."""

    def __init__(self, address: str | None = None, cpus_per_cell: float = 1, gpus_per_cell: float = 0) -> None:
        self.address, self.cpus_per_cell, self.gpus_per_cell = address, cpus_per_cell, gpus_per_cell

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """What a cell needs."""
        self.config, self.hydra_context, self.task_function = config, hydra_context, task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the cells; what they returned, in order. Errors: no Ray, no cluster; a cell whose process died, once all others ended."""
        ray = _ray()
        from dsel.functional.cores import num_cores
        from dsel.ray_cluster import connect

        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        connect(self.address, num_cores(), "hydra.launcher.address")
        environment = {name: os.environ[name] for name in SHARED if name in os.environ}
        cell = ray.remote(num_cpus=self.cpus_per_cell, num_gpus=self.gpus_per_cell, max_retries=0)(run_cell)
        cell = cell.options(runtime_env={"env_vars": environment})
        shared = ray.put((self.hydra_context, self.config, self.task_function, Singleton.get_state(), str(Path.cwd())))
        log.info(
            "Launching %d jobs on Ray; `python -m dsel.sweep status %s` says how far they are",
            len(job_overrides),
            self.config.hydra.sweep.dir,
        )
        jobs = {}
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            log.info("\t#%d : %s", number, " ".join(filter_overrides(overrides)))
            jobs[number] = cell.remote(shared, number, list(overrides))
        return self._collect(ray, jobs)

    def _collect(self, ray: Any, jobs: dict[int, Any]) -> list[JobReturn]:
        found: dict[int, JobReturn] = {}
        lost: Exception | None = None
        numbers = {reference: number for number, reference in jobs.items()}
        try:
            left = list(numbers)
            while left:
                (done,), left = ray.wait(left)
                try:
                    found[numbers[done]] = ray.get(done)
                except ray.exceptions.RayError as error:  # its process died; the others go on
                    lost = error
        except KeyboardInterrupt:
            for reference in numbers:
                ray.cancel(reference)
            raise
        if lost is not None:
            raise lost
        return [found[number] for number in jobs]


def run_cell(shared: tuple[Any, ...], number: int, overrides: list[str]) -> JobReturn:
    """One cell, in a process of Ray's."""
    hydra_context, config, task_function, state, place = shared
    os.chdir(place)
    setup_globals()
    Singleton.set_state(state)
    job = hydra_context.config_loader.load_sweep_config(config, overrides)
    with open_dict(job):
        job.hydra.job.id, job.hydra.job.num = str(number), number
    return run_job(
        hydra_context=hydra_context,
        task_function=task_function,
        config=job,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise InputError("hydra/launcher=ray: Ray is not installed; pip install 'dsel[ray]', or set hydra/launcher=joblib") from error
    return ray
