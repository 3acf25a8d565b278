"""How many cores this process may use."""

from __future__ import annotations

import os


def num_cores() -> int:
    """Cores of the machine, or those that the process is confined to where the system says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
