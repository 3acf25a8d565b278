"""Content-addressed results on disk: computed once, shared by the cells of a sweep, never half-written."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from glob import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

log = logging.getLogger("dsel")

DONE = "done.json"
PART = ".part"  # ends the name of a file that is being written
BUILDING, SCRATCH = ".tmp", ".partial"  # end the names of a folder that an artifact is built in, and of what outlives a kill
RELEASED = ("torch.", "pytorch_lightning.", "transformers.")  # packages with versions, which result.json states


def fingerprint(*parts: Any) -> str:
    """A hash of JSON-like values: equal values, equal fingerprint, whatever the order of their keys."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


@cache
def hash_module(module: str) -> str:
    """A hash of a module's source (of all modules, for a package): what is computed depends on it."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return "none"
    origin = Path(spec.origin)
    files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
    digest = hashlib.blake2b(digest_size=12)
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def hash_code(config: Any) -> dict[str, str]:
    """Source hashes of every class that a resolved config names by `_target_`: dsel's and the user's own."""
    found: dict[str, str] = {}
    if isinstance(config, Mapping):
        target = config.get("_target_")
        if isinstance(target, str) and not target.startswith(RELEASED):
            found[target] = hash_module(target.rpartition(".")[0])
        for value in config.values():
            found |= hash_code(value)
    elif isinstance(config, list | tuple):
        for value in config:
            found |= hash_code(value)
    return found


def hash_file(path: Path) -> str:
    """A hash of the file's bytes; a file of the same size and time is not read again in this process."""
    state = path.stat()
    return _hash(path, state.st_size, state.st_mtime_ns)


def hash_folder(folder: Path, patterns: Sequence[str] = ("**/*",)) -> list[list[str]]:
    """Names, from the folder on, and hashes of the files that fit any of the patterns, by name; none where there is no such folder."""
    files = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    return [[str(path.relative_to(folder)), hash_file(path)] for path in files]


@cache
def _hash(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary file to write, renamed to `path` at the end: a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_parts(path: Path) -> None:
    """Delete what a killed process left of writing `path`. Only for who knows that no other process is writing it."""
    for part in path.parent.glob(f".{escape(path.name)}.*{PART}"):
        part.unlink(missing_ok=True)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def scratch(folder: Path) -> Path:
    """Beside the folder that an artifact is built in: where to put what the next try may go on from. It goes when the artifact is there."""
    return folder.with_name(folder.name.removesuffix(BUILDING) + SCRATCH)


@dataclass(frozen=True)
class Store:
    """Folders `<name>-<fingerprint>` under `root`, each complete (it holds `done.json`) or absent."""

    root: Path
    found: dict[Path, float] = field(default_factory=dict, repr=False, compare=False)  # seconds that went into them, where they say so

    @property
    def saved(self) -> float:
        """Seconds that went into what was found here and not computed, each counted once."""
        return sum(self.found.values())

    def path(self, name: str, key: str) -> Path:
        """Where the artifact stands, or will stand."""
        return self.root / f"{name}-{key}"

    def has(self, name: str, key: str) -> bool:
        """Whether the artifact is complete."""
        return (self.path(name, key) / DONE).is_file()

    def get(self, name: str, key: str, build: Callable[[Path], Mapping[str, Any] | None]) -> tuple[Path, bool]:
        """The artifact's folder, and whether it was there already.

        If it is absent, `build` writes into a temporary folder, which is then renamed; other processes wait for it
        under a lock, and a killed one leaves nothing that counts. What `build` returns is kept in `done.json`.
        """
        path = self.path(name, key)
        if self.has(name, key):
            return self._find(path), True
        self.root.mkdir(parents=True, exist_ok=True)
        with self.locked(path.name):
            if self.has(name, key):
                return self._find(path), True
            folder = self.root / f".{path.name}{BUILDING}"
            if folder.exists():  # we hold the lock: its owner is dead
                shutil.rmtree(folder)
            folder.mkdir()
            try:
                record = build(folder)
                write_atomic(folder / DONE, json.dumps(dict(record or {}), indent=1, default=str))
                shutil.rmtree(path, ignore_errors=True)
                os.replace(folder, path)
                shutil.rmtree(scratch(folder), ignore_errors=True)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        self.found[path] = 0.0  # computed here, and not to be counted when it is asked for again
        return path, False

    def count(self, path: Path, seconds: float) -> None:
        """Seconds that went into what was found at `path`, which is no artifact."""
        self.found[path] = seconds

    def _find(self, path: Path) -> Path:
        if path not in self.found:
            self.found[path] = float(read_record(path).get("seconds", 0.0))
        return path

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Alone with `name` among all runs that share this store; a killed one holds no lock."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.root / f".{name}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            log.info("%s: another run is computing it; waiting", name)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def read_record(folder: Path) -> dict[str, Any]:
    """What `build` returned when the artifact in `folder` was made."""
    record: dict[str, Any] = json.loads((folder / DONE).read_text(encoding="utf-8"))
    return record
