"""Classification and regression tasks about the documentation that every Python environment carries, to be trained on one by one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from dsel.corpus import Documents
from dsel.data.asked import Ask, draw_rows, find_versions, read_documented
from dsel.data.doc_tasks import TASKS
from dsel.data.documented import Documented
from dsel.data.installed_docs import STDLIB
from dsel.data.tasks import make_documents, set_kind
from dsel.error import InputError
from dsel.pool import SRC, TGT

MOST_CLASSES = 8  # of a question that has more answers the commonest are asked for
FEWEST_ROWS = 5  # with an answer, without which it is no class
PACKAGE = "package"


def _topic(doc: Documented) -> str:
    """The part of the package that the object stands in; nothing where it stands in none."""
    names = doc.name.split(".")[doc.package != STDLIB :]
    return names[0] if len(names) > 1 else ""


CLASSIFIED: Mapping[str, Ask] = {
    **{name: TASKS[name] for name in ("kind_of_object", "is_private", "has_defaults", "has_returns", "is_long")},
    "has_example": replace(TASKS["has_example"], about=lambda doc: doc.summary),
    "topic": Ask("Part?", lambda doc: doc.text, _topic),
    "opening": Ask("First word?", lambda doc: doc.summary.partition(" ")[2], lambda doc: doc.words[0].lower()),
    "initial": Ask("First letter of the name?", lambda doc: doc.summary, lambda doc: doc.bare.strip("_")[:1].lower()),
    PACKAGE: Ask("Package?", lambda doc: doc.text, lambda doc: doc.package),
}
MEASURED: Mapping[str, Ask] = {
    **{name: TASKS[name] for name in ("num_parameters", "num_words")},
    "log_length": Ask("Logarithm of the length?", lambda doc: doc.summary, lambda doc: f"{math.log2(len(doc.text)):.3f}"),
}
QUESTIONS: Mapping[str, Ask] = {**CLASSIFIED, **MEASURED}
TARGETS = (
    *("kind_of_object", "is_private", "has_defaults", "has_returns", "has_example", "opening", PACKAGE),
    *("num_parameters", "log_length"),
)


@dataclass(frozen=True)
class DocLabels:
    """Questions about docstrings of installed packages, whose answers are classes or numbers.

    A source is a question asked of one of `packages` (`has_returns_numpy`), with at most `per_task` rows, or which package a text is of; a
    target, one of `targets`, is a question asked of all `target_packages`, with `num_target` rows. Texts are the first `max_characters`
    characters of a docstring or its summary, without the question. No two documents have the same summary. A source without two classes of
    a few rows is left out and listed.
    """

    packages: Sequence[str] = field(default_factory=lambda: ["stdlib", "sympy", "networkx", "numpy"])
    target_packages: Sequence[str] = field(default_factory=lambda: ["scipy", "sklearn", "pandas"])
    targets: Sequence[str] = field(default_factory=lambda: [*TARGETS])
    per_task: int = 1000
    num_target: int = 1500
    max_characters: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("per_task", "num_target"):
            if getattr(self, key) < 2 * FEWEST_ROWS:
                raise InputError(f"data.{key}={getattr(self, key)}: must be at least {2 * FEWEST_ROWS}")
        if self.max_characters < 20:
            raise InputError(f"data.max_characters={self.max_characters}: must be at least 20")
        for key, example in (("packages", "stdlib"), ("target_packages", "scipy"), ("targets", "has_returns")):
            if isinstance(given := getattr(self, key), str) or not given:
                raise InputError(f"data.{key}={given}: must be a list of one name at least, such as [{example}]")
        if wrong := [name for name in self.targets if name not in QUESTIONS]:
            raise InputError(f"data.targets={wrong[0]}: is none of the questions {', '.join(QUESTIONS)}")
        if both := sorted({*self.packages} & {*self.target_packages}):
            raise InputError(f"data.target_packages={both[0]}: is one of data.packages as well; take it out of one of them")
        if PACKAGE in self.targets and len({*self.target_packages}) == 1:
            raise InputError(
                f"data.targets={PACKAGE}: there is one package only, {self.target_packages[0]}; name more in data.target_packages="
            )

    def identity(self) -> dict[str, Any]:
        """Versions of the packages, and the options. Errors: a package not installed."""
        options = {key: value for key, value in vars(self).items() if key not in ("packages", "target_packages")}
        return {**options, "versions": self._versions()}

    def read(self) -> Documents:
        """Errors: a package that is not installed, fewer documents than a target needs, no source."""
        versions = self._versions()
        docs = read_documented([*versions["target_packages"], *versions["packages"]], self.seed)
        ours = [doc for doc in docs if doc.package in versions["target_packages"]]
        target = {name: self._task(name, name, ours, self.num_target) for name in self.targets}
        for name, table in target.items():
            if table.num_rows < self.num_target:
                raise InputError(
                    f"data.num_target={self.num_target}: {', '.join(self.target_packages)} have only {table.num_rows} documents for "
                    f"{name}; lower it, or name more in data.target_packages="
                )
        asked = {
            f"{question}_{package}": (question, [doc for doc in docs if doc.package == package])
            for question in QUESTIONS
            for package in versions["packages"]
            if question != PACKAGE
        }
        if len(versions["packages"]) > 1:
            asked[f"{PACKAGE}_of_source"] = (PACKAGE, [doc for doc in docs if doc.package in versions["packages"]])
        source = {name: self._task(name, question, some, self.per_task) for name, (question, some) in asked.items()}
        left_out = [name for name, table in source.items() if not table.num_rows]
        source = {name: table for name, table in source.items() if table.num_rows}
        if not source:
            raise InputError(f"data.packages={', '.join(self.packages)}: document too little for any source; name more")
        return make_documents(source, target, listed=[f"{name} too_few" for name in left_out], facts={"versions": versions}, apart=True)

    def _versions(self) -> dict[str, dict[str, str]]:
        return {key: find_versions(getattr(self, key), key) for key in ("packages", "target_packages")}

    def _task(self, name: str, question: str, docs: Sequence[Documented], most: int) -> pa.Table:
        """At most `most` rows of the task; none where they have not two answers."""
        ask = QUESTIONS[question]
        counts = Counter(ask.answer(doc) for doc in docs if ask.about(doc) and ask.answer(doc))
        if question in CLASSIFIED:
            counts = Counter({answer: count for answer, count in counts.most_common(MOST_CLASSES) if count >= FEWEST_ROWS})
        docs = [doc for doc in docs if ask.answer(doc) in counts] if len(counts) > 1 and counts.total() >= 2 * FEWEST_ROWS else []
        rows = draw_rows(name, ask, docs, most, self.max_characters, self.seed)
        columns = {SRC: [about for _, about, _ in rows], TGT: [answer for *_, answer in rows], "document": [doc.name for doc, *_ in rows]}
        table = pa.table({key: pa.array(values, pa.string()) for key, values in columns.items()})
        return set_kind(table, question in MEASURED)
