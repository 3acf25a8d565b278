"""Labels of docstrings: are they right, by what importing the packages says, and do sources and targets share nothing?"""

from __future__ import annotations

import inspect
import json
import math
from collections import Counter, defaultdict
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from pydoc import locate
from typing import Any

import pytest

from dsel.corpus import Documents, Split, load, prepare
from dsel.data.doc_labels import CLASSIFIED, MEASURED, QUESTIONS, TARGETS, DocLabels
from dsel.data.documented import KINDS
from dsel.error import InputError
from dsel.labelled import read_tasks

SMALL = DocLabels(packages=["networkx", "hydra"], target_packages=["datasets", "huggingface_hub"], per_task=60, num_target=80)


@pytest.fixture(scope="module")
def docs() -> Documents:
    return SMALL.read()


@pytest.fixture(scope="module")
def tasks(docs: Documents) -> dict[str, list[dict[str, Any]]]:
    """Rows by task, the targets' too."""
    found = defaultdict(list)
    for row in docs.source.to_pylist() + docs.target.to_pylist():
        found[row["task"]].append(row)
    return found


def question_of(name: str) -> str:
    return max((question for question in QUESTIONS if name.startswith(question)), key=len)


def test_tasks(docs: Documents, tasks: dict[str, list[dict[str, Any]]]) -> None:
    asked = {f"{question}_{package}" for question in QUESTIONS if question != "package" for package in ("networkx", "hydra")}
    left_out = {line.removesuffix(" too_few") for line in docs.listed}
    assert left_out == {"has_example_hydra"}  # of which there is none
    assert set(docs.source["task"].to_pylist()) == (asked | {"package_of_source"}) - left_out
    assert len(set(docs.source["task"].to_pylist())) >= 20
    assert Counter(docs.target["task"].to_pylist()) == dict.fromkeys(TARGETS, 80)
    assert sum(name in CLASSIFIED for name in TARGETS) >= 5
    assert sum(name in MEASURED for name in TARGETS) >= 2
    assert (docs.apart, docs.in_tasks, docs.needs_source) == (True, True, True)
    for name, rows in tasks.items():
        assert 10 <= len(rows) <= 80, name
        assert {row["dsel_kind"] for row in rows} == {"numbers" if question_of(name) in MEASURED else "classes"}
        assert all(0 < len(row["src"]) <= 300 for row in rows), name
        answers = Counter(row["tgt"] for row in rows)
        assert 2 <= len(answers) <= 8 or question_of(name) in MEASURED, name
    assert Counter(row["tgt"] for row in tasks["is_private"]) == {"yes": 40, "no": 40}
    assert Counter(row["tgt"] for row in tasks["package_of_source"]) == {"hydra": 30, "networkx": 30}


def test_sources_and_targets_share_nothing(docs: Documents, tmp_path: Path) -> None:
    packages = [{name.split(".")[0] for name in table["document"].to_pylist()} for table in (docs.source, docs.target)]
    assert packages == [{"networkx", "hydra"}, {"datasets", "huggingface_hub"}]
    dropped = prepare(docs, Split(), tmp_path)["dropped"]
    assert set(dropped["source"]) | set(dropped["target"]) <= {"duplicate"}  # summaries that begin alike
    found = read_tasks(load(tmp_path).pools())
    for part in ("finetune", "validation", "test"):
        assert set(found[part]) == set(TARGETS)
    for name, task in found["source"].items():
        assert task.is_regression == (question_of(name) in MEASURED)
        assert len(task.check()) > 0.9 * docs.facts["tasks"]["source"][name]


def test_labels_are_right_by_what_importing_says(tasks: dict[str, list[dict[str, Any]]]) -> None:
    num_checked = 0
    for name, rows in tasks.items():
        for row in rows:
            bare = row["document"].rpartition(".")[2]
            match question_of(name):
                case "is_private":
                    assert (row["tgt"] == "yes") == bare.startswith("_")
                case "package":
                    assert row["tgt"] == row["document"].split(".")[0]
                case "topic":
                    assert row["tgt"] == row["document"].split(".")[1]
                case "initial":
                    assert row["tgt"] == bare.lower().lstrip("_")[0]
                case "kind_of_object":
                    assert row["tgt"] in KINDS
                    made = locate(row["document"])
                    if inspect.isclass(made) or inspect.ismodule(made):
                        assert row["tgt"] == ("class" if inspect.isclass(made) else "module")
                case "log_length" if (made := locate(row["document"])) is not None and not hasattr(made, "orig_func") and made.__doc__:
                    num_checked += math.isclose(float(row["tgt"]), math.log2(len(inspect.cleandoc(made.__doc__))), abs_tol=0.02)
                case "opening" if (made := locate(row["document"])) is not None and not hasattr(made, "orig_func") and made.__doc__:
                    num_checked += made.__doc__.split()[0].lower().strip("`.:,").startswith(row["tgt"])
    assert num_checked > 150  # of 280, but for what cannot be imported, or changes its own


def test_what_is_asked_for_is_not_in_the_text(tasks: dict[str, list[dict[str, Any]]]) -> None:
    for name in ("opening", "opening_networkx"):
        first = [row["src"].split()[0].lower() == row["tgt"] for row in tasks[name]]
        assert sum(first) < len(first) / 10
    assert not any(row["src"].startswith(QUESTIONS[question_of(name)].prompt) for name, rows in tasks.items() for row in rows)


def test_what_a_row_hangs_on() -> None:
    data = DocLabels(["hydra"], ["omegaconf"], ["has_defaults"], num_target=20, max_characters=40)
    docs, again, other = data.read(), data.read(), replace(data, seed=1).read()
    assert again.source.equals(docs.source)
    assert again.target.equals(docs.target)
    assert other.target["document"].to_pylist() != docs.target["document"].to_pylist()
    assert max(map(len, docs.target["src"].to_pylist())) <= 40
    assert set(docs.target["task"].to_pylist()) == {"has_defaults"}
    assert "package_of_source" not in docs.facts["tasks"]["source"]  # of one package there is no question


def test_identity() -> None:
    identity = SMALL.identity()
    assert json.loads(json.dumps(identity)) == identity
    assert identity["versions"]["packages"] == {"hydra": version("hydra-core"), "networkx": version("networkx")}
    assert replace(SMALL, seed=1).identity() != identity


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ["poems"]}, r"data.targets=poems: is none of the questions kind_of_object, "),
        ({"targets": "has_returns"}, r"data.targets=has_returns: must be a list"),
        ({"packages": []}, r"data.packages=\[\]: must be a list of one name at least, such as \[stdlib\]"),
        ({"target_packages": []}, r"data.target_packages=\[\]: must be a list"),
        ({"packages": ["scipy", "numpy"]}, r"data.target_packages=scipy: is one of data.packages as well"),
        ({"target_packages": ["scipy"]}, r"data.targets=package: there is one package only, scipy; name more in data.target_packages="),
        ({"per_task": 1}, r"data.per_task=1: must be at least 10"),
        ({"num_target": 9}, r"data.num_target=9: must be at least 10"),
        ({"max_characters": 5}, r"data.max_characters=5: must be at least 20"),
        ({"packages": ["nowhere"]}, r"data.packages=nowhere: not installed here; there are "),
        ({"target_packages": ["nowhere", "scipy"]}, r"data.target_packages=nowhere: not installed here"),
        (
            {"packages": ["hydra"], "target_packages": ["filelock"], "targets": ["has_returns"]},
            r"data.num_target=1500: filelock have only \d+ documents for has_returns; lower it, or name more in data.target_packages=",
        ),
        (
            {"packages": ["certifi"], "target_packages": ["hydra"], "targets": ["num_words"], "num_target": 10},
            r"data.packages=certifi: document too little for any source; name more",
        ),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        DocLabels(**{"targets": list(TARGETS), **options}).read()
    assert "\n" not in str(error.value)
