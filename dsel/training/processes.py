"""Training on several processes of this machine, which the run starts itself: one for each device of the trainer.

Lightning would start the program anew, with its sweep; here this process is the first of them, and the others do nothing but train.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from pytorch_lightning.strategies import ParallelStrategy

from dsel.error import InputError
from dsel.functional.cores import THREADS
from dsel.remote import pack, unpack
from dsel.training.resumable import Stopped

READY = "ready"
GRACE = 5.0  # seconds in which the other processes end by themselves


class Place(ClusterEnvironment):
    """Which of the processes this is. They meet at `meeting`, a file, rather than at a port that another run may take."""

    def __init__(self, rank: int = 0, meeting: str = "", pipe: Connection | None = None) -> None:
        super().__init__()
        self.rank, self.meeting, self.size = rank, meeting, 1
        self.pipe = pipe  # to the first

    creates_processes_externally = True  # by us
    main_address, main_port = "127.0.0.1", 0

    @staticmethod
    def detect() -> bool:
        """It is given, not found."""
        return False

    def world_size(self) -> int:
        """Of how many."""
        return self.size

    def set_world_size(self, size: int) -> None:
        """Lightning counts the devices."""
        self.size = size

    def global_rank(self) -> int:
        """Which."""
        return self.rank

    def set_global_rank(self, rank: int) -> None:
        """It stays what it is."""

    def local_rank(self) -> int:
        """The same: there is one machine."""
        return self.rank

    def node_rank(self) -> int:
        """There is one machine."""
        return 0


class Shares(torch.utils.data.Dataset[tuple[Any, bool]]):
    """One process's rows of each step's batch, and whether there are any: where there are none, it takes a row that is not to count."""

    def __init__(self, batches: Any, rank: int, size: int) -> None:
        self.batches, self.rank, self.size = batches, rank, size

    def __getitem__(self, step: int) -> tuple[Any, bool]:
        batch = self.batches[step]
        rows = len(batch if isinstance(batch, torch.Tensor) else batch[0])
        first = self.rank if self.rank < rows else 0
        return _every(batch, first, self.size), self.rank < rows


def _every(batch: Any, first: int, step: int) -> Any:
    """Rows of a tensor, or of each tensor of a named tuple."""
    if isinstance(batch, torch.Tensor):
        return batch[first::step]
    return type(batch)(*(None if part is None else part[first::step] for part in batch))


def check_alone() -> None:
    """Errors: others, by torchrun or srun, were started as this process was, and would all do the whole run."""
    for program, key in (("torchrun", "WORLD_SIZE"), ("srun", "SLURM_STEP_NUM_TASKS")):
        if (count := os.environ.get(key, "1")) != "1":
            raise InputError(f"trainer.devices: {key}={count}: {program} has started dsel {count} times; start it once, without {program}")


@contextmanager
def together(trainer: pl.Trainer, place: Place, job: Callable[[Place], Any]) -> Iterator[None]:
    """Inside, as many processes as the trainer has devices are joined: the first begins the others, which do `job`.

    Errors: what stopped one of the others; the trainer wants several machines.
    """
    size = trainer.world_size
    if not isinstance(trainer.strategy, ParallelStrategy):
        yield
        return
    if trainer.num_nodes > 1:
        raise InputError(f"trainer.num_nodes={trainer.num_nodes}: processes are started on this machine only; set trainer.num_nodes=1")
    with tempfile.TemporaryDirectory(prefix="dsel-") as folder, _threads(trainer, size):
        if place.pipe is not None:
            place.pipe.send(READY)
            with _joined(trainer, place, size):
                yield
            return
        if size > 1:
            check_alone()
        place.meeting = str(Path(folder) / "meeting")
        with _others(job, place.meeting, size), _joined(trainer, place, size):
            yield


@contextmanager
def _joined(trainer: pl.Trainer, place: Place, size: int) -> Iterator[None]:
    """In a group, which Lightning then finds."""
    backend = "nccl" if trainer.strategy.root_device.type == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, f"file://{place.meeting}", rank=place.rank, world_size=size)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


@contextmanager
def _threads(trainer: pl.Trainer, size: int) -> Iterator[None]:
    """On the CPU, each process's part of the cores. Lightning sets them by a variable where there is none."""
    before, is_set = torch.get_num_threads(), THREADS in os.environ
    os.environ.setdefault(THREADS, str(before))
    if trainer.strategy.root_device.type == "cpu":
        torch.set_num_threads(max(1, before // size))
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if not is_set:
            del os.environ[THREADS]


@contextmanager
def _others(job: Callable[[Place], Any], meeting: str, size: int) -> Iterator[None]:
    """Processes 1 and on, which are gone at the end. Their errors stand above the one that follows from it here."""
    context, data = multiprocessing.get_context("spawn"), pickle.dumps(pack(job), protocol=5)
    begun: list[tuple[SpawnProcess, Connection]] = []
    try:
        for rank in range(1, size):
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_other, args=(data, rank, meeting, torch.get_num_threads(), there), daemon=True)
            process.start()
            there.close()
            begun.append((process, here))
        for process, pipe in begun:  # before the first waits for them where nothing would tell it that they are gone
            if (said := _answer(process, pipe)) != READY:
                raise RuntimeError(f"training on several processes: {said}")
        yield
    except RuntimeError as error:
        _raise_first([line for process, pipe in begun if (line := _what_stopped(process, pipe))], error)
    finally:
        for process, _ in begun:
            process.join(GRACE)
            process.kill()
            process.join()


def _raise_first(lines: list[str], error: Exception) -> None:
    """Errors: always one."""
    if not lines or not (type(error) is RuntimeError or isinstance(error, torch.distributed.DistError)):
        raise error  # the others followed
    raise RuntimeError(f"training on several processes: {lines[0]}") from error


def _what_stopped(process: SpawnProcess, pipe: Connection) -> str:
    """What it said, or that it was killed; empty where it only followed."""
    return _answer(process, pipe) if pipe.poll(GRACE) else ""


def _answer(process: SpawnProcess, pipe: Connection) -> str:
    """What it says next, or that it is gone; empty where it has ended in peace."""
    try:
        return str(pipe.recv())
    except EOFError:
        process.join(GRACE)
        return f"one ended with exit code {process.exitcode}" if process.exitcode else ""


def _other(data: bytes, rank: int, meeting: str, threads: int, pipe: Connection) -> None:
    """What another process does: the job, in silence."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first decides when to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.disable(logging.WARNING)  # the first says it
    torch.set_num_threads(threads)
    try:
        job: Callable[[Place], Any] = unpack(pickle.loads(data))
        job(Place(rank, meeting, pipe))
    except Stopped:
        pass  # as the first was asked to
    except Exception as error:  # noqa: BLE001  # whatever it is: the first tells it
        pipe.send(f"process {rank}: {type(error).__name__}: {' '.join(str(error).split())}")


def _end_with_parent() -> None:
    """A killed run leaves no process behind that waits for it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
