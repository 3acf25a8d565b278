"""A Hydra callback that reports on a sweep when its last cell is done, and on a single selection or ranking."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from dsel.error import InputError


class Report(Callback):
    """Builds the report over `hydra.sweep.dir`. Hydra makes one whenever it starts: imports wait for the end."""

    def __init__(self, images: bool = True) -> None:
        self.images = images

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table and where the report is. A report that fails must not lose the sweep: one line says so."""
        from dsel.report.build import FORMATS, build
        from dsel.report.many import STORE, keep

        folder = Path(config.hydra.sweep.dir)
        try:
            build(folder, formats=FORMATS if self.images else ())
            keep(folder, Path(config.paths.outputs) / STORE)
        except (InputError, OSError) as error:
            print(f"report: not written: {error}", file=sys.stderr)

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print what a selection from a stream or a ranking of tasks found, and where its page is; nothing for a run that failed."""
        value = getattr(kwargs.get("job_return"), "_return_value", None)
        if isinstance(value, BaseException) or value != value:  # what a failed run returns is not a number
            return
        from dsel.report.single import build_single

        try:
            build_single(Path(config.hydra.run.dir))
        except (InputError, OSError) as error:
            print(f"report: not written: {error}", file=sys.stderr)
