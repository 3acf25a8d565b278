"""How many cores this process may use, and the processes and threads that it starts."""

from __future__ import annotations

import os

THREADS = "OMP_NUM_THREADS"  # of torch, in processes that are started


def num_cores() -> int:
    """Cores of the machine, or those that the process is confined to where the system says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_each(count: int) -> int:
    """Of each of `count` that work side by side: its share, at least one."""
    return max(1, num_cores() // max(1, count))
