"""Work on a Ray cluster."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa

from dsel.artifact import hash_module
from dsel.error import InputError
from dsel.functional.cores import num_cores
from dsel.progress import progress
from dsel.protocol import Item, Result
from dsel.ray_cluster import connect
from dsel.remote import Node, Packed, Worker, answers, pack, pickled

BLOCKS_PER_WORKER = 64  # at most: a block costs Ray 10 ms of this process's time, so a million pieces go in larger blocks
RETRIES = 20  # of a block whose worker was lost: seven went by, measured, before Ray had noticed that a whole node was gone
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS")


@dataclass(frozen=True)
class Ray:
    """Ray Data over a pool of actors. The same items give the same results, bit for bit, as in `Local` with as many torch threads.

    `address`: null starts a cluster on this machine, which ends with this process; "auto" is the one that this machine belongs
    to, and host:port its head. `num_workers` actors (null = as many as fit) get `cpus_per_worker` CPUs each, which is also their
    number of threads. Work that holds tensors, such as a model, gets `gpus_per_worker` GPUs (null = 1 where the cluster has any),
    and its tensors are put there; other work gets none.

    Several nodes need one file system for `artifacts`, which is `paths.artifacts`, and for the source's files, under the same
    names, and the same dsel: every actor checks its node first. The items are put into Ray's object store before the work begins
    (pieces are small; of `phases.score` they are the pool itself). Finished results wait there too, as many bytes as Ray Data's
    budget allows. A worker or a node that is lost is replaced, and its block done again, 20 times at most.
    """

    address: str | None = None
    num_workers: int | None = None
    cpus_per_worker: int = 1
    gpus_per_worker: float | None = None
    artifacts: str | None = None

    def __post_init__(self) -> None:
        for name in ("num_workers", "cpus_per_worker"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"executor.{name}={getattr(self, name)}: must be at least 1")
        if self.gpus_per_worker is not None and self.gpus_per_worker < 0:
            raise InputError(f"executor.gpus_per_worker={self.gpus_per_worker}: must be 0 or more")
        if (self.address or "").startswith("ray://"):
            raise InputError(
                f"executor.address={self.address}: Ray Data does not work through the Ray Client; "
                "start dsel on a machine of the cluster with executor.address=auto"
            )
        if find_spec("ray") is None:
            raise InputError("executor=ray: Ray is not installed; pip install 'dsel[ray]', or take executor=local")

    def map(self, work: Callable[[Item], Result], items: Sequence[Item], sizes: Sequence[int], label: str, unit: str) -> Iterator[Result]:
        """The results, in the order of the items. The first error, in that order, stops the rest."""
        if not items:
            return
        cpus = self.num_workers * self.cpus_per_worker if self.num_workers else num_cores()
        connect(self.address, cpus, "executor.address")
        import ray

        with _mark(self.artifacts) as marker, progress(label, sum(sizes), unit) as bar:
            node = Node(str(Path.cwd()), marker, hash_module("dsel"))
            try:
                with closing(self._run(work, items, node)) as batches:
                    for size, answer in zip(sizes, answers(batches), strict=True):
                        if answer.error:
                            raise answer.error
                        yield answer.result
                        bar.advance(size)
            except ray.exceptions.RayError as error:
                why = str(error).strip().splitlines()
                raise InputError(
                    f"executor=ray: phase {label}: no worker could be started, or {RETRIES + 1} were lost over the same piece "
                    f"({type(error).__name__}: {why[-1] if why else ''}); if memory ran out, give executor.num_workers= a smaller number"
                ) from error

    def _run(self, work: Callable[[Any], Any], items: Sequence[Any], node: Node) -> Generator[pa.Table]:
        """Tables of pickled answers, in order."""
        import ray
        from ray.data import ActorPoolStrategy, DataContext

        packed = pack(work)
        gpus = self._gpus(bool(packed.tensors))
        places = self._places(gpus)
        per_block = max(1, len(items) // (BLOCKS_PER_WORKER * places))
        blocks = [pa.table({"item": pickled(items[at : at + per_block])}) for at in range(0, len(items), per_block)]
        # A second block in an actor's queue hides 0.1 s of waiting for the next; behind one that a model reads it would wait for
        # minutes itself, while other actors are idle.
        pool = ActorPoolStrategy(size=min(places, len(blocks)), max_tasks_in_flight_per_actor=1 if packed.tensors else 2)
        with DataContext.current(_context()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the limit to retries: Ray Data 2.60 has no other name for it, and without it no limit
            dataset = ray.data.from_blocks(blocks).map_batches(
                Worker,
                fn_constructor_args=(node, Fetch(ray.put(packed)), "cuda" if gpus else "cpu"),
                batch_size=per_block,
                batch_format="pyarrow",
                compute=pool,
                num_cpus=self.cpus_per_worker,
                num_gpus=gpus or None,
                max_restarts=-1,
                max_task_retries=RETRIES,
                runtime_env={"env_vars": dict.fromkeys(THREADS, str(self.cpus_per_worker))},
            )
        with closing(iter(dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))) as batches:
            yield from batches

    def _gpus(self, holds_tensors: bool) -> float:
        """GPUs of an actor."""
        import ray

        if not holds_tensors:
            return 0
        if self.gpus_per_worker is not None:
            return self.gpus_per_worker
        return 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0

    def _places(self, gpus: float) -> int:
        """How many actors to start. Errors: no node has room for one."""
        import ray

        nodes = [(n["Resources"].get("CPU", 0), n["Resources"].get("GPU", 0)) for n in ray.nodes() if n["Alive"]]
        room = [min(cpu // self.cpus_per_worker, gpu // gpus if gpus else cpu) for cpu, gpu in nodes]
        if sum(room) < 1 and (self.num_workers is None or self.address is None):  # another cluster may grow for as many as are asked for
            cpu, gpu = max(nodes, default=(0, 0))
            raise InputError(
                f"executor.cpus_per_worker={self.cpus_per_worker}, gpus_per_worker={gpus:g}: no node of the Ray cluster has room; "
                f"the largest of {len(nodes)} has {cpu:g} CPUs and {gpu:g} GPUs"
            )
        return self.num_workers or int(sum(room))


@dataclass(frozen=True)
class Fetch:
    """Gets the work out of the object store, where it is once for all actors."""

    work: Any

    def __call__(self) -> Packed:
        """The packed work, whose read-only memory all actors of a node share."""
        import ray

        packed: Packed = ray.get(self.work)
        return packed


def _context() -> Any:
    """Ray Data's settings for a map."""
    from ray.data import DataContext

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # as for "ray"; it has handlers of its own
    context = DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.execution_no_progress_timeout_s = -1  # a piece may take hours
    context.enable_progress_bars = context.print_on_execution_start = False
    return context


@contextmanager
def _mark(folder: str | None) -> Iterator[str | None]:
    """A file in `folder` by which a worker knows that it sees this folder and not another of the same name."""
    if folder is None:
        yield None
        return
    path = Path(folder).absolute()
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path, prefix=".ray-") as file:
        yield file.name
