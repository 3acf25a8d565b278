"""Peak memory is a process's own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dsel.functional.peak_memory import peak_mb

CHILD = "from dsel.functional.peak_memory import peak_mb; held = b'x' * ({megabytes} << 20); print(peak_mb())"


def of_child(megabytes: int) -> float:
    done = subprocess.run([sys.executable, "-c", CHILD.format(megabytes=megabytes)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_what_a_process_has_held() -> None:
    held = b"x" * (300 << 20)
    assert peak_mb() > 300
    assert of_child(200) > 200
    del held


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a process does not begin with the peak of its parent")
def test_not_that_of_the_process_that_started_it() -> None:
    held = b"x" * (300 << 20)
    assert of_child(0) < 150
    del held
