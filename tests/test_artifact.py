"""Artifacts are complete or absent, and built once."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsel.artifact import Store, fingerprint, hash_code, hash_file, hash_folder, hash_module, read_record, write_atomic

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=10,
)


def reordered(value: Any) -> Any:
    """The same value with the keys of all mappings turned round."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@given(json_values)
def test_fingerprints_do_not_see_the_order_of_keys(value: Any) -> None:
    assert fingerprint(reordered(value)) == fingerprint(value) == fingerprint(json.loads(json.dumps(value)))


@given(json_values, json_values)
def test_other_values_other_fingerprint(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (fingerprint(one) == fingerprint(other)) == same
    assert fingerprint([one], other) != fingerprint([one, other])


def test_the_code_is_part_of_a_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "made_up_module.py"
    monkeypatch.syspath_prepend(str(tmp_path))
    hashes = []
    for source in ("a = 1\n", "a = 2\n", "a = 1\n"):
        module.write_text(source)
        hash_module.cache_clear()
        hashes.append(hash_module("made_up_module"))
    assert hashes[0] == hashes[2] != hashes[1]
    config = {
        "scorer": {"_target_": "dsel.scorer.cds.Cds", "inner": [{"_target_": "dsel.pool.Budget"}]},
        "o": {"_target_": "torch.optim.SGD"},
    }
    assert hash_code(config) == {
        "dsel.scorer.cds.Cds": hash_module("dsel.scorer.cds"),
        "dsel.pool.Budget": hash_module("dsel.pool"),
    }


def test_a_folder_is_known_by_its_files(tmp_path: Path) -> None:
    """By name, place and bytes."""
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name, text in {"b/c/x.json": "1", "b/y.txt": "2", "a.json": "1"}.items():
        (tmp_path / name).write_text(text)
    found = dict(hash_folder(tmp_path))
    assert list(found) == ["a.json", "b/c/x.json", "b/y.txt"]
    assert found["a.json"] == found["b/c/x.json"] == hash_file(tmp_path / "a.json") != found["b/y.txt"]
    assert hash_folder(tmp_path, ["*.json", "a*", "b*"]) == [["a.json", found["a.json"]]]
    assert hash_folder(tmp_path / "none") == hash_folder(tmp_path / "a.json") == []


def build(folder: Path) -> dict[str, Any]:
    """Write a file; slow enough for others to come."""
    (folder / "value.txt").write_text(str(os.getpid()))
    time.sleep(0.2)
    return {"tokens": 3}


def left(root: Path) -> list[str]:
    """What stands in the store, locks apart."""
    return sorted(path.name for path in root.iterdir() if not path.name.endswith(".lock"))


def test_built_once_and_found_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert not store.has("score", "abc")
    folder, found = store.get("score", "abc", build)
    assert (folder, found) == (tmp_path / "score-abc", False)
    assert read_record(folder) == {"tokens": 3}

    def never(_: Path) -> None:
        raise AssertionError

    assert store.get("score", "abc", never) == (folder, True)
    assert left(tmp_path) == ["score-abc"]


def _get(root: Path, queue: Any) -> None:
    folder, found = Store(root).get("score", "abc", build)
    queue.put((os.getpid(), found, (folder / "value.txt").read_text()))


def test_processes_share_one_build(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_get, args=(tmp_path, queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    answers = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    builders = [pid for pid, found, _ in answers if not found]
    assert len(builders) == 1
    assert {value for _, _, value in answers} == {str(builders[0])}
    assert left(tmp_path) == ["score-abc"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_build_that_fails_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def fail(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise error("on purpose")

    store = Store(tmp_path)
    with pytest.raises(error, match="on purpose"):
        store.get("score", "abc", fail)
    assert left(tmp_path) == []
    assert not store.has("score", "abc")
    assert not store.get("score", "abc", build)[1]  # and the next one may


def _hang(root: Path) -> None:
    def hang(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        time.sleep(600)

    Store(root).get("score", "abc", hang)


def test_a_killed_build_does_not_count_and_is_cleaned_up(tmp_path: Path) -> None:
    worker = multiprocessing.get_context("spawn").Process(target=_hang, args=(tmp_path,))
    worker.start()
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".score-abc.tmp/half.txt")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    store = Store(tmp_path)
    assert not store.has("score", "abc")
    assert len(left(tmp_path)) == 1  # the dead one's folder
    other = tmp_path / ".score-other.tmp"
    other.mkdir()
    folder, found = store.get("score", "abc", build)
    assert not found
    assert not (folder / "half.txt").exists()
    assert left(tmp_path) == [".score-other.tmp", "score-abc"]  # other keys' builders may be alive


def test_a_folder_without_its_mark_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "score-abc").mkdir()
    (tmp_path / "score-abc" / "half.txt").write_text("half")
    folder, found = Store(tmp_path).get("score", "abc", build)
    assert not found
    assert sorted(path.name for path in folder.iterdir()) == ["done.json", "value.txt"]


def test_write_atomic_leaves_the_old_file_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "result.json"
    write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "new \ud800")
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["result.json"]
    write_atomic(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644
