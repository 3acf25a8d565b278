"""Work on this machine."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from dsel.error import InputError
from dsel.functional.cores import num_cores
from dsel.progress import progress
from dsel.protocol import Item, Result


@dataclass(frozen=True)
class Local:
    """`num_workers` threads, null = one a core: torch, numpy, numba and pyarrow leave the interpreter's lock.

    Only the items under way are in memory. Each worker has one core for its matrices, so that the results do not depend on
    how many workers there are.
    """

    num_workers: int | None = None

    def __post_init__(self) -> None:
        if self.num_workers is not None and self.num_workers < 1:
            raise InputError(f"executor.num_workers={self.num_workers}: must be at least 1, or null for one a core")

    def map(self, work: Callable[[Item], Result], items: Sequence[Item], sizes: Sequence[int], label: str, unit: str) -> Iterator[Result]:
        """The results, in the order of the items. The first error stops what has not begun."""
        under_way: deque[Future[Result]] = deque()
        num_workers = min(self.num_workers or num_cores(), max(len(items), 1))
        with progress(label, sum(sizes), unit) as bar, _one_core_each(), ThreadPoolExecutor(num_workers) as workers:
            try:
                for number, size in enumerate(sizes):
                    while len(under_way) < min(num_workers + 1, len(items) - number):
                        under_way.append(workers.submit(work, items[number + len(under_way)]))
                    yield under_way.popleft().result()
                    bar.advance(size)
            finally:
                for future in under_way:
                    future.cancel()


@contextmanager
def _one_core_each() -> Iterator[None]:
    """Matrix products stay in the thread that asks for them. Who uses no torch need not import it."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
