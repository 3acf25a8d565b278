"""What a state knows of the phases before."""

from __future__ import annotations

from pathlib import Path

from dsel.state import State


def test_the_newest_file_of_a_name(tmp_path: Path) -> None:
    """By the order of the phases, not of the folders' names."""
    folders = {name: tmp_path / name for name in ("z", "a", "m")}
    for folder in folders.values():
        folder.mkdir()
    state = State("key", folders)
    assert state.find("ranking.parquet") is None
    for name in ("z", "a"):
        (folders[name] / "ranking.parquet").touch()
    (folders["m"] / "ranking.parquet").mkdir()
    assert state.find("ranking.parquet") == folders["a"]
    assert State("key").find("ranking.parquet") is None
