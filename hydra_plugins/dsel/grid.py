"""The sweeper of dsel: Hydra's grid, with values that go in pairs, a plan on disk, and cells that do not take each other down."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product, zip_longest
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from dsel.error import InputError
from dsel.functional.cores import THREADS, cores_each
from dsel.sweep.cells import Cells
from dsel.sweep.plan import Launch, add_launch

log = logging.getLogger("dsel")

Group = list[list[str]]  # overrides that are set together, for each of their values


class Grid(BasicSweeper):
    """All combinations of `params` and of what the command line gives. `pairs` is a list of mappings of keys to values that go together:
    the first of each, the second of each ... `only` are the numbers of the cells to run, of those that the sweep's plan has."""

    def __init__(
        self,
        max_batch_size: int | None = None,
        params: dict[str, str] | None = None,
        pairs: Sequence[Mapping[str, Any]] = (),
        only: Sequence[int] | None = None,
    ) -> None:
        super().__init__(max_batch_size, params)
        self.pairs, self.only = pairs, only

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Errors: a launcher that cannot work here."""
        check_launcher(launcher_of(config))
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        """Run the cells, and again those that never began where a process was killed from outside. What every cell returned."""
        return [self._run(self._place(self._jobs(arguments)))]

    @property
    def _config(self) -> DictConfig:
        assert self.config is not None
        return self.config

    @property
    def _folder(self) -> Path:
        return Path(self._config.hydra.sweep.dir).absolute()

    def _run(self, jobs: dict[str, list[str]]) -> list[JobReturn]:
        """Write down what is to be run, and run it. After Ctrl-C what is under way is stopped, and the report written of what there is."""
        self._folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self._config, self._folder / "multirun.yaml")
        launch = add_launch(self._folder, list(jobs.items()), self._launch())
        if self.only is not None:
            jobs = {name: job for (name, job), number in zip(jobs.items(), launch.cells, strict=True) if number in self.only}
        if not isinstance(self.launcher, BasicLauncher):
            jobs = spread(jobs)
        cells = Cells(self._folder, launch.started, bool(self._config.get("fail_fast")))
        try:
            with shared_cores(launcher_of(self._config), len(jobs)):
                return self._launch_all(jobs, cells, launch.first_job)
        except KeyboardInterrupt:
            cells.stop()
            assert self.hydra_context is not None
            self.hydra_context.callbacks.on_multirun_end(config=self._config, config_name=None)
            raise

    def _launch_all(self, jobs: dict[str, list[str]], cells: Cells, first_job: int) -> list[JobReturn]:
        """Every launch that fails as a whole leaves at least one cell less to run: the one that was at work."""
        assert self.launcher is not None
        found: list[JobReturn] = []
        while jobs:
            try:
                found += self.launcher.launch(list(jobs.values()), initial_job_idx=first_job)
                break
            except InputError:
                raise
            except Exception as error:
                left = cells.after_crash(list(jobs), error)
                if len(left) == len(jobs):
                    raise
                first_job += len(jobs)
                jobs = {name: jobs[name] for name in left}
        for each in found:
            _ = each.return_value  # raises what the cell raised
        return found

    def _launch(self) -> Launch:
        """What was typed, where, and who runs it."""
        outputs = Path(self._config.paths.outputs).absolute()
        arguments = [argument for argument in sys.argv[1:] if not argument.startswith("hydra.sweeper.only=")]
        return Launch(arguments, str(Path.cwd()), str(outputs), socket.gethostname(), os.getpid(), time.time())

    def _jobs(self, arguments: list[str]) -> list[list[str]]:
        """The overrides of each cell: params, pairs and the command line, which stands above both."""
        groups: dict[str, Group] = {}
        for key, value in self.params.items():
            groups[key] = [[each] for each in self._values(f"{key}={value}")]
        typed = {self._key(argument): [[each] for each in self._values(argument)] for argument in arguments}
        for number, pair in enumerate(self.pairs):
            for key in pair:
                groups.pop(key, None)
            groups[f"pairs[{number}]"] = self._pair(number, pair, typed)
        return [[each for part in parts for each in part] for parts in product(*(groups | typed).values())]

    def _pair(self, number: int, pair: Mapping[str, Any], typed: Mapping[str, Group]) -> Group:
        """One list of overrides a place in the pair. Errors: unequal numbers of values, or several on the command line."""
        lists = {key: self._values(f"{key}={value}") for key, value in pair.items() if key not in typed}
        for key in pair:
            if len(typed.get(key, [])) > 1:
                others = ", ".join(other for other in pair if other != key)
                raise InputError(f"{key}: is paired with {others} in hydra.sweeper.pairs[{number}]; give one value, or all pairs")
        if len({len(values) for values in lists.values()}) > 1:
            told = ", ".join(f"{key} has {len(values)}" for key, values in lists.items())
            raise InputError(f"hydra.sweeper.pairs[{number}]: values that go together must be equally many; {told}")
        return [list(values) for values in zip(*lists.values(), strict=True)] or [[]]

    def _parsed(self, override: str) -> Any:
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        return parser.parse_overrides([override])[0]

    def _key(self, override: str) -> str:
        key: str = self._parsed(override).get_key_element()
        return key

    def _values(self, override: str) -> list[str]:
        """The override, or where it sweeps, one for each value. Errors: an interval, of which there are endlessly many."""
        parsed = self._parsed(override)
        if not parsed.is_sweep_override():
            return [f"{parsed.get_key_element()}={parsed.get_value_element_as_str()}"]
        if not parsed.is_discrete_sweep():
            raise InputError(f"{override}: an interval is for searches; give values, or set hydra/sweeper=optuna")
        return [f"{parsed.get_key_element()}={value}" for value in parsed.sweep_string_iterator()]

    def _name(self, job: list[str]) -> str:
        """The cell's folder within the sweep's. Errors: its overrides do not compose."""
        assert self.hydra_context is not None
        config = self.hydra_context.config_loader.load_sweep_config(self._config, job)
        return str(OmegaConf.select(config, "hydra.sweep.subdir"))

    def _place(self, jobs: list[list[str]]) -> dict[str, list[str]]:
        """Each cell's folder, and its overrides. Errors: two cells in one folder."""
        found: dict[str, list[str]] = {}
        for job in jobs:
            name = self._name(job)
            if name in found:
                both = sorted(set(found[name]) ^ set(job))
                told = " ".join(both) or "equal values"
                raise InputError(f"two cells would share the folder {name}, and one overwrite the other: {told}")
            found[name] = job
        return found


def spread(jobs: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """The cells in turns over the seeds: those of one seed share their pretraining, and side by side one would wait for the other."""
    by_seed: dict[str, list[str]] = {}
    for name, job in jobs.items():
        by_seed.setdefault(next((override for override in job if override.startswith("seed=")), ""), []).append(name)
    turns = zip_longest(*by_seed.values())
    return {name: jobs[name] for turn in turns for name in turn if name is not None}


def launcher_of(config: DictConfig) -> str:
    """Its class, as configured."""
    return str(OmegaConf.select(config, "hydra.launcher._target_"))


@contextmanager
def shared_cores(target: str, num_cells: int) -> Iterator[None]:
    """submitit's local launcher starts all cells at once: each takes its share of the cores, unless the user says otherwise. With all
    cores for each they would wait for each other most of the time."""
    if not target.endswith("LocalLauncher") or THREADS in os.environ:
        yield
        return
    os.environ[THREADS] = str(cores_each(num_cells))
    try:
        yield
    finally:
        del os.environ[THREADS]


def check_launcher(target: str) -> None:
    """Errors: a launcher that cannot work on this machine. Says where the output of jobs goes that have no terminal."""
    if target.endswith("SlurmLauncher") and shutil.which("srun") is None:
        raise InputError(
            "hydra/launcher=submitit_slurm: there is no srun on this machine; launch from a login node of the cluster, or set "
            "hydra/launcher=submitit_local"
        )
    if "submitit" in target:
        log.info("what the jobs print is in .submitit/ in the sweep's folder; `python -m dsel.sweep status FOLDER` says how far they are")
