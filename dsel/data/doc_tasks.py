"""Tasks about the documentation that every Python environment carries, some of use for the target, some wrong on purpose."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa

from dsel.corpus import Documents
from dsel.data.asked import Ask, draw_rows, find_versions, read_documented
from dsel.data.documented import KINDS, Documented
from dsel.data.tasks import make_documents
from dsel.error import InputError
from dsel.pool import NOISE, SRC, TGT
from dsel.sieve import draw

WRONG_ANSWERS = "wrong_answers"
TARGET_SHARE = 3  # one document in so many is the target's


def _say(truth: object) -> str:
    return "yes" if truth else "no"


def _if(truth: object, text: str) -> str:
    return text if truth else ""


def _callable(doc: Documented) -> bool:
    return doc.kind in ("function", "method")


def _text(doc: Documented) -> str:
    return doc.text


def _summary(doc: Documented) -> str:
    return doc.summary


def _turned(doc: Documented) -> str:
    return KINDS[(KINDS.index(doc.kind) + 1) % len(KINDS)]


SECTION = re.compile(r"^\s*(returns?|yields?)\s*:?\s*$|:returns?:", re.IGNORECASE | re.MULTILINE)
PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
KIND = "Kind?"  # asked by the tasks that are of use, and by those that are wrong
TASKS: Mapping[str, Ask] = {
    "kind_of_object": Ask(KIND, _text, lambda doc: doc.kind),
    "kind_from_summary": Ask(KIND, _summary, lambda doc: doc.kind),
    "kind_from_name": Ask(KIND, lambda doc: doc.name, lambda doc: doc.kind),
    "first_word": Ask("First word?", _summary, lambda doc: doc.words[0]),
    "last_word": Ask("Last word?", _summary, lambda doc: doc.words[-1]),
    "longest_word": Ask("Longest word?", _summary, lambda doc: max(doc.words, key=len)),
    "missing_word": Ask("Missing word?", lambda doc: " ".join([*doc.words[:2], "___", *doc.words[3:]]), lambda doc: doc.words[2]),
    "num_words": Ask("How many words?", _summary, lambda doc: str(len(doc.words))),
    "first_letters": Ask("First letters?", lambda doc: " ".join(doc.words[:8]), lambda doc: " ".join(word[0] for word in doc.words[:8])),
    "reversed_words": Ask("Reversed?", lambda doc: " ".join(doc.words[:6]), lambda doc: " ".join(doc.words[:6][::-1])),
    "sorted_words": Ask("Sorted?", lambda doc: " ".join(doc.words[:6]), lambda doc: " ".join(sorted(doc.words[:6], key=str.lower))),
    "upper_case": Ask("Upper case?", lambda doc: " ".join(doc.words[:6]), lambda doc: " ".join(doc.words[:6]).upper()),
    "next_words": Ask("How does it go on?", lambda doc: " ".join(doc.words[:-3]), lambda doc: " ".join(doc.words[-3:])),
    "name_from_summary": Ask("Name?", _summary, lambda doc: doc.bare),
    "parts_of_name": Ask("Parts?", lambda doc: doc.bare, lambda doc: " ".join(PART.findall(doc.bare)).lower()),
    "num_letters": Ask("How many letters?", lambda doc: doc.bare, lambda doc: str(len(doc.bare))),
    "module_of": Ask(
        "Module?", lambda doc: _if(doc.kind in ("class", "function"), doc.titled), lambda doc: "".join(doc.name.split(".")[-2:-1])
    ),
    "is_private": Ask("Private?", _summary, lambda doc: _say(doc.bare[0] == "_")),
    "parent_class": Ask("Parent class?", lambda doc: doc.titled, lambda doc: next(iter(doc.bases), "")),
    "parameters": Ask("Parameters?", lambda doc: doc.titled, lambda doc: ", ".join(doc.parameters[:4])),
    "num_parameters": Ask("How many parameters?", lambda doc: _if(_callable(doc), doc.titled), lambda doc: str(len(doc.parameters))),
    "has_defaults": Ask("Has defaults?", lambda doc: _if(doc.parameters, doc.text), lambda doc: _say(doc.num_defaults)),
    "has_returns": Ask("Says what it returns?", lambda doc: _if(_callable(doc), doc.text), lambda doc: _say(SECTION.search(doc.text))),
    "has_example": Ask("Has an example?", _text, lambda doc: _say(">>>" in doc.text)),
    "is_long": Ask("Over 500 characters?", _summary, lambda doc: _say(len(doc.text) > 500)),
    "summary_from_body": Ask("Summary?", lambda doc: doc.text.partition("\n\n")[2], lambda doc: " ".join(doc.words[:10])),
}
WRONG: Mapping[str, Ask] = {
    "wrong_kind": Ask(KIND, _text, _turned),
    "wrong_kind_from_summary": Ask(KIND, _summary, _turned),
    "shuffled_kind": TASKS["kind_of_object"],
    "shuffled_kind_from_summary": TASKS["kind_from_summary"],
}


@dataclass(frozen=True)
class DocTasks:
    """Questions about docstrings of the installed `packages`. Task `target` is the target, with `num_target` rows; the others are
    auxiliary, with at most `per_task` rows each.

    Besides the tasks in `TASKS` there are the target's usual question asked of one package (`kind_in_<package>`), and tasks in which it has
    wrong answers: always another kind (`wrong_kind`), or those of the task's other rows (`shuffled_kind`); `dsel_noise` is "wrong_answers"
    where the answer is wrong. Questions show the first `max_characters` characters of a docstring, a name or a summary. No document that
    the target asks about, a third of all by a hash of `seed` and name, is asked about in another task.
    """

    target: str = "kind_of_object"
    packages: Sequence[str] = field(default_factory=lambda: ["stdlib", "sympy", "networkx", "numpy"])
    per_task: int = 200
    num_target: int = 600
    max_characters: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("per_task", "num_target"):
            if getattr(self, key) < 2:
                raise InputError(f"data.{key}={getattr(self, key)}: must be at least 2")
        if self.max_characters < 20:
            raise InputError(f"data.max_characters={self.max_characters}: must be at least 20")
        if self.target not in TASKS:
            raise InputError(f"data.target={self.target}: is none of the tasks {', '.join(TASKS)}")
        if not self.packages:
            raise InputError("data.packages=[]: name one at least, such as stdlib")

    def identity(self) -> dict[str, Any]:
        """Versions of the packages, and the options. Errors: a package not installed."""
        options = {key: value for key, value in vars(self).items() if key != "packages"}
        return {**options, "versions": find_versions(self.packages)}

    def read(self) -> Documents:
        """Errors: a package that is not installed, fewer documents than the target needs, a task that the packages have no rows for."""
        versions = find_versions(self.packages)
        docs = read_documented(versions, self.seed)
        is_target = draw([doc.name for doc in docs], self.seed) % np.uint64(TARGET_SHARE) == 0
        hidden, others = ([doc for doc, each in zip(docs, is_target, strict=True) if each == side] for side in (True, False))
        target = self._task(self.target, TASKS[self.target], hidden, self.num_target)
        if target.num_rows < self.num_target:
            raise InputError(
                f"data.num_target={self.num_target}: {', '.join(versions)} have only {target.num_rows} documents for the target; lower it, "
                "or name more in data.packages="
            )
        tasks = {name: self._task(name, ask, others, self.per_task) for name, ask in {**TASKS, **WRONG}.items() if name != self.target}
        if len(versions) > 1:
            tasks["package"] = self._task("package", Ask("Package?", _text, lambda doc: doc.package), others, self.per_task)
            for package in versions:
                name, some = f"kind_in_{package}", [doc for doc in others if doc.package == package]
                tasks[name] = self._task(name, TASKS["kind_of_object"], some, self.per_task)
        return make_documents(tasks, {self.target: target}, facts={"versions": versions})

    def _task(self, name: str, ask: Ask, docs: Sequence[Documented], most: int) -> pa.Table:
        """At most `most` rows of the task."""
        rows = draw_rows(name, ask, docs, most, self.max_characters, self.seed)
        answers = [answer for *_, answer in rows]
        if name.startswith("shuffled"):
            Random(f"{self.seed} {name}").shuffle(answers)
        wrong = [name in WRONG and answer != doc.kind for (doc, *_), answer in zip(rows, answers, strict=True)]
        columns = {
            SRC: [f"{ask.prompt} {about}" for _, about, _ in rows],
            TGT: answers,
            "document": [doc.name for doc, *_ in rows],
            NOISE: [WRONG_ANSWERS if each else None for each in wrong],
        }
        return pa.table({key: pa.array(values, pa.string()) for key, values in columns.items()})
