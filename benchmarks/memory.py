"""Peak memory of a run of dsel in a process of its own: `python benchmarks/memory.py experiment=select ...` prints it last, in MB."""

from __future__ import annotations

import sys

from dsel.functional.peak_memory import peak_mb
from dsel.run import main

if __name__ == "__main__":
    sys.argv[0] = "dsel"
    main()
    print(peak_mb())
