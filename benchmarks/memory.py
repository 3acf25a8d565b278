"""Peak memory of a run of dsel in a process of its own: `python benchmarks/memory.py experiment=select ...` prints it last, in MB."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from dsel.run import main


def peak_mb() -> float:
    """Of this process. Linux's `ru_maxrss` will not do: a process starts with that of the one that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


if __name__ == "__main__":
    sys.argv[0] = "dsel"
    main()
    print(peak_mb())
