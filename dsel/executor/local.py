"""Work on this machine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from dsel.error import InputError
from dsel.progress import progress
from dsel.protocol import Item, Result


@dataclass(frozen=True)
class Local:
    """`num_workers` threads: torch, numpy, numba and pyarrow leave the interpreter's lock. Only the items under way are in memory."""

    num_workers: int = 1

    def __post_init__(self) -> None:
        if self.num_workers < 1:
            raise InputError(f"executor.num_workers={self.num_workers}: must be at least 1")

    def map(self, work: Callable[[Item], Result], items: Sequence[Item], sizes: Sequence[int], label: str, unit: str) -> Iterator[Result]:
        """The results, in the order of the items. The first error stops what has not begun."""
        under_way: deque[Future[Result]] = deque()
        with progress(label, sum(sizes), unit) as bar, ThreadPoolExecutor(self.num_workers) as workers:
            try:
                for number, size in enumerate(sizes):
                    while len(under_way) < min(self.num_workers + 1, len(items) - number):
                        under_way.append(workers.submit(work, items[number + len(under_way)]))
                    yield under_way.popleft().result()
                    bar.advance(size)
            finally:
                for future in under_way:
                    future.cancel()
