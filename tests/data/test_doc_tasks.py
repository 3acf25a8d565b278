"""Questions about docstrings: are the answers right, by what importing the packages says, and wrong where they are marked?"""

from __future__ import annotations

import inspect
import json
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from pydoc import locate
from typing import Any

import pytest

from dsel.corpus import Documents, Split, prepare
from dsel.data.doc_tasks import TASKS, WRONG, DocTasks
from dsel.data.documented import KINDS, parse
from dsel.error import InputError

SMALL = DocTasks(packages=["networkx", "hydra"], per_task=30, num_target=80)


@pytest.fixture(scope="module")
def docs() -> Documents:
    return SMALL.read()


@pytest.fixture(scope="module")
def tasks(docs: Documents) -> dict[str, list[dict[str, Any]]]:
    """Rows by task, the target's too."""
    found = defaultdict(list)
    for row in docs.source.to_pylist() + docs.target.to_pylist():
        found[row["task"]].append(row)
    return found


def kind_of(name: str) -> str | None:
    """Of what bears the name, by importing it; None where that is not possible."""
    made = locate(name)
    if made is None:
        return None
    if name in sys.modules:  # by whose name a function of the same one may hide it
        return "module"
    return "class" if inspect.isclass(made) else "method" if inspect.isclass(locate(name.rpartition(".")[0])) else "function"


def test_tasks(docs: Documents, tasks: dict[str, list[dict[str, Any]]]) -> None:
    assert set(tasks) == {*TASKS, *WRONG, "package", "kind_in_networkx", "kind_in_hydra"}
    assert len(set(docs.source["task"].to_pylist())) >= 20
    for name, rows in tasks.items():
        assert 2 <= len(rows) <= 30 or name == SMALL.target, name
        assert len({row["tgt"] for row in rows}) >= 2, name
        assert all(len(row["src"]) <= 200 + len("Says what it returns? ") for row in rows), name
    assert Counter(docs.target["task"].to_pylist()) == {"kind_of_object": 80}
    assert docs.facts["versions"] == {"networkx": version("networkx"), "hydra": version("hydra-core")}


def test_no_document_of_the_target_is_in_another_task(docs: Documents, tmp_path: Path) -> None:
    source, target = (set(table["document"].to_pylist()) for table in (docs.source, docs.target))
    assert len(target) == 80
    assert not source & target
    dropped = prepare(docs, Split(), tmp_path)["dropped"]
    assert not dropped["target"]
    assert set(dropped["source"]) <= {"duplicate"}  # a question of two tasks


def test_kinds_are_right_unless_they_are_marked(tasks: dict[str, list[dict[str, Any]]]) -> None:
    num_checked = 0
    for name in ("kind_of_object", "kind_in_networkx", "kind_from_name", "kind_from_summary", *WRONG):
        for row in tasks[name]:
            if (kind := kind_of(row["document"])) is not None:
                assert (row["tgt"] == kind) == (row["dsel_noise"] is None), row
                num_checked += 1
    assert num_checked > 150
    assert all(row["dsel_noise"] == "wrong_answers" for name in ("wrong_kind", "wrong_kind_from_summary") for row in tasks[name])
    assert any(row["dsel_noise"] for row in tasks["shuffled_kind"])
    assert {row["dsel_noise"] for name in TASKS for row in tasks[name]} == {None}
    assert Counter(row["tgt"] for row in tasks["kind_of_object"]) == dict.fromkeys(KINDS, 20)  # as many of each


def test_what_the_source_says(tasks: dict[str, list[dict[str, Any]]]) -> None:
    classes = [(row, locate(row["document"])) for row in tasks["parent_class"]]
    parents = [row["tgt"] == made.__bases__[0].__name__ for row, made in classes if inspect.isclass(made)]
    assert len(parents) > 15
    assert sum(parents) > 0.9 * len(parents)  # but for aliases
    counts = []
    for row in tasks["num_parameters"]:
        if callable(made := locate(row["document"])):
            known = inspect.signature(getattr(made, "orig_func", made)).parameters.values()  # networkx adds parameters to its functions
            named = [each for each in known if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
            counts.append(int(row["tgt"]) - sum(each.name not in ("self", "cls") for each in named))
    assert len(counts) > 15
    assert counts.count(0) > 0.9 * len(counts)  # but for other decorators


def test_answers_are_what_is_asked(tasks: dict[str, list[dict[str, Any]]]) -> None:
    def about(row: dict[str, Any]) -> str:
        prompt = TASKS[row["task"]].prompt
        assert row["src"].startswith(f"{prompt} ")
        return str(row["src"]).removeprefix(f"{prompt} ")

    for row in tasks["reversed_words"]:
        assert about(row).split() == row["tgt"].split()[::-1]
    for row in tasks["upper_case"]:
        assert about(row).upper() == row["tgt"]
    for row in tasks["num_letters"]:
        assert str(len(about(row))) == row["tgt"]
    for row in tasks["package"]:
        assert row["document"].split(".")[0] == row["tgt"]
    for row in tasks["is_private"]:
        assert (row["tgt"] == "yes") == row["document"].split(".")[-1].startswith("_")
    for row in tasks["first_word"]:
        assert row["tgt"] in about(row)


def test_what_a_row_hangs_on() -> None:
    data = DocTasks(packages=["hydra"], per_task=10, num_target=10)
    docs, again, other = data.read(), data.read(), replace(data, seed=1).read()
    assert again.source.equals(docs.source)
    assert again.target.equals(docs.target)
    assert other.target["src"].to_pylist() != docs.target["src"].to_pylist()


def test_any_task_may_be_the_target() -> None:
    docs = DocTasks(target="first_word", packages=["networkx"], per_task=10, num_target=20, max_characters=40).read()
    names = set(docs.source["task"].to_pylist())
    assert names == {*TASKS, *WRONG} - {"first_word"}  # of one package there is no question
    assert set(docs.target["task"].to_pylist()) == {"first_word"}
    assert max(len(text) for text in docs.target["src"].to_pylist()) <= 40 + len("First word? ")


def test_parse() -> None:
    source = b'''"""A module of four words."""
class A(b.Base[int], C):
    """A class
    of two lines.

    More."""
    if True:
        def f(self, x, /, y=1, *z, w, v=2, **u):
            """A method of four words."""
            def g(): """A function that is inside."""
    def h(self): """Too short."""
try:
    async def k(): """A function of four words."""
except E: pass
'''
    found = list(parse(source, "p.m", "p"))
    assert [(doc.kind, doc.name) for doc in found] == [
        ("module", "p.m"), ("class", "p.m.A"), ("method", "p.m.A.f"), ("function", "p.m.k"),
    ]  # fmt: skip
    assert found[1].summary == "A class of two lines."
    assert found[1].bases == ["Base[int]", "C"]
    assert (found[2].parameters, found[2].num_defaults) == (["x", "y", "w", "v"], 2)
    assert list(parse(b"'''\x00'''", "m", "p")) == list(parse(b"", "m", "p")) == []


def test_identity() -> None:
    identity = DocTasks().identity()
    assert json.loads(json.dumps(identity)) == identity
    assert identity["versions"]["networkx"] == version("networkx")
    assert DocTasks(seed=1).identity() != identity


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "poems"}, r"data.target=poems: is none of the tasks kind_of_object, "),
        ({"target": "wrong_kind"}, r"data.target=wrong_kind: is none of the tasks"),
        ({"packages": []}, r"data.packages=\[\]: name one"),
        ({"packages": ["nowhere"]}, r"data.packages=nowhere: not installed here; there are "),
        ({"per_task": 1}, r"data.per_task=1: must be at least 2"),
        ({"num_target": 0}, r"data.num_target=0: must be at least 2"),
        ({"max_characters": 5}, r"data.max_characters=5: must be at least 20"),
        (
            {"packages": ["filelock"]},
            r"data.num_target=600: filelock have only \d+ documents for the target; lower it, or name more in data.packages=",
        ),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        DocTasks(**options).read()
    assert "\n" not in str(error.value)
