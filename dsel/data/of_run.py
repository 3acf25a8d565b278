"""The data and the models of a run that has ended."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dsel.corpus import Documents
from dsel.error import InputError
from dsel.finished import Finished


@dataclass(frozen=True)
class OfRun:
    """The corpus, the tokenizer, the model and the checkpoints of the run in the folder `run`: the pipeline goes on from them."""

    run: str

    @cached_property
    def finished(self) -> Finished:
        """That run."""
        return Finished(Path(self.run).expanduser(), "checkpoint")

    def identity(self) -> str:
        """The run's fingerprint. Errors: it has not ended."""
        return str(self.finished.record["fingerprint"])

    def read(self) -> Documents:
        """Errors: always, since nothing is to be read anew."""
        raise InputError(f"checkpoint={self.run}: the data of a run are taken as they are")
