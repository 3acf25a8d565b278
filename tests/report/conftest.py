"""A sweep for the tests that only read it."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_sweep import write_sweep


@pytest.fixture(scope="session")
def sweep_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One sweep for all tests that only read it."""
    return write_sweep(tmp_path_factory.mktemp("outputs") / "sweep")
