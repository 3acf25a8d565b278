"""Work on this machine."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from dsel.error import InputError
from dsel.functional.cores import cores_each, num_cores
from dsel.progress import progress
from dsel.protocol import Item, Result


@dataclass(frozen=True)
class Local:
    """`num_workers` threads: torch, numpy, numba and pyarrow leave the interpreter's lock. Null = one a core, or one for a GPU.

    Only the items under way are in memory. How many cores a matrix product takes depends on the number of items, not of workers:
    nor do the results.
    """

    num_workers: int | None = None

    def __post_init__(self) -> None:
        if self.num_workers is not None and self.num_workers < 1:
            raise InputError(f"executor.num_workers={self.num_workers}: must be at least 1, or null for one a core")

    def map(self, work: Callable[[Item], Result], items: Sequence[Item], sizes: Sequence[int], label: str, unit: str) -> Iterator[Result]:
        """The results, in the order of the items. The first error stops what has not begun."""
        under_way: deque[Future[Result]] = deque()
        threads = cores_each(len(items))
        num_workers = self.num_workers or (1 if _has_gpu() else num_cores())
        with (
            progress(label, sum(sizes), unit) as bar,
            _threads_of_torch(threads),
            ThreadPoolExecutor(num_workers) as workers,
        ):
            try:
                for number, size in enumerate(sizes):
                    while len(under_way) < min(num_workers + 1, len(items) - number):
                        under_way.append(workers.submit(work, items[number + len(under_way)]))
                    yield under_way.popleft().result()
                    bar.advance(size)
            finally:
                for future in under_way:
                    future.cancel()


def _has_gpu() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_available()


@contextmanager
def _threads_of_torch(number: int) -> Iterator[None]:
    """That many cores for a matrix product. Who uses no torch need not import it."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
