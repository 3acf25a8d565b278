"""What installed packages document, and rows of a question about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dsel.data.documented import Documented, parse
from dsel.data.installed_docs import available, find_version, list_files
from dsel.error import InputError
from dsel.sieve import draw

MOST_FILES = 300  # of a package that are parsed
FEW = 10  # answers of which a task has as many of each as there are


@dataclass(frozen=True)
class Ask:
    """A task: a few words that say what is asked, what about, and the answer; nothing is asked where one of the two is empty."""

    prompt: str
    about: Callable[[Documented], str]
    answer: Callable[[Documented], str]


def find_versions(packages: Sequence[str], option: str = "packages") -> dict[str, str]:
    """Installed version by package, sorted. Errors: a package that `option` names and that is not installed."""
    found = {}
    for package in sorted(set(packages)):
        if (installed := find_version(package)) is None:
            raise InputError(f"data.{option}={package}: not installed here; there are {', '.join(available())}")
        found[package] = installed
    return found


def read_documented(packages: Iterable[str], seed: int) -> list[Documented]:
    """What has a docstring of a few words in the packages, or in as many files of each as are read, drawn by `seed`; of those whose
    summaries read alike the first."""
    found = [doc for package in packages for doc in _parse(package, seed)]
    return list({doc.summary.lower(): doc for doc in reversed(found)}.values())[::-1]


def _parse(package: str, seed: int) -> Iterator[Documented]:
    files = list_files(package)
    chosen = np.sort(np.argsort(draw([module for _, module in files], seed), kind="stable")[:MOST_FILES])
    for path, module in (files[at] for at in chosen):
        yield from parse(Path(path).read_bytes(), module, package)


def draw_rows(
    name: str, ask: Ask, docs: Sequence[Documented], most: int, max_characters: int, seed: int
) -> list[tuple[Documented, str, str]]:
    """At most `most` documents, with as much of what is asked about as `max_characters` and the answer, drawn by `seed`, the task's name
    and the document; of few answers as many of each as there are."""
    luck = draw([f"{name} {doc.name}" for doc in docs], seed)
    rows = [(doc, ask.about(doc)[:max_characters].strip(), ask.answer(doc)) for doc in (docs[at] for at in np.argsort(luck))]
    rows = [row for row in rows if row[1] and row[2]]
    seen: Counter[str] = Counter()
    turns = []
    for *_, answer in rows:
        turns.append(seen[answer])
        seen[answer] += 1
    order = np.argsort(turns, kind="stable") if len(seen) <= FEW else np.arange(len(rows))
    return [rows[at] for at in order[:most]]
