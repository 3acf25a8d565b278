"""Tasks of labels, read from the pools of a corpus."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_up_corpus import make_pool

from dsel.error import InputError
from dsel.labelled import LabelledTask, read_tasks
from dsel.pool import CLASSES, KIND, NUMBERS, SECOND, Pool


def pool_of(labels: dict[str, list[str]], name: str = "source", kinds: dict[str, str] | None = None) -> Pool:
    rows = [
        {"task": task, "src": f"{name} {task} {at}", "tgt": label, "text": f"{task} {at}\t{label}", "id": f"{task}-{at}"}
        | ({KIND: kinds.get(task, CLASSES)} if kinds else {})
        for task, answers in labels.items()
        for at, label in enumerate(answers)
    ]
    return make_pool(rows, name)


def task(**changes: Any) -> LabelledTask:
    given = LabelledTask("one", ["a", "b", "c"], ["x", None, "z"], np.array([0, 1, 0]), ("no", "yes"), ["one-0", "one-1", "one-2"])
    return replace(given, **changes)


def test_tasks_by_part_and_name() -> None:
    found = read_tasks({"source": pool_of({"b": ["x", "y"], "a": ["1", "2", "1"]}), "target": pool_of({"goal": ["u", "v"]}, "target")})
    assert {part: list(tasks) for part, tasks in found.items()} == {"source": ["a", "b"], "target": ["goal"]}
    own = found["source"]["a"]
    assert own.first == ["source a 0", "source a 1", "source a 2"]
    assert own.second is None
    assert own.labels.tolist() == [0, 1, 0]
    assert own.labels.dtype == np.int64
    assert list(own.classes) == ["1", "2"]
    assert own.ids == ["a-0", "a-1", "a-2"]
    assert (own.num_outputs, own.is_regression, len(own)) == (2, False, 3)


def test_classes_are_those_of_all_parts() -> None:
    """Two parts of a task, of which none has all classes."""
    found = read_tasks({"target": pool_of({"goal": ["u", "w", "u"]}), "test": pool_of({"goal": ["v", "u"]}, "test")})
    assert list(found["target"]["goal"].classes) == list(found["test"]["goal"].classes) == ["u", "v", "w"]
    assert found["target"]["goal"].labels.tolist() == [0, 2, 0]
    assert found["test"]["goal"].labels.tolist() == [1, 0]


def test_a_part_without_rows() -> None:
    empty = make_pool([{"text": "x"}], "test").take(np.array([], np.int64))
    assert read_tasks({"target": pool_of({"goal": ["u", "w"]}), "test": empty})["test"] == {}


def test_pairs_are_taken_apart() -> None:
    """The second text stands behind a line break of the question; there may be others, and rows without one."""
    pairs = [("what\nis it", "a cat"), ("alone", None), ("twice twice", "twice"), ("", "x\ny")]
    rows = [
        {"task": "pairs", "src": first if second is None else f"{first}\n{second}", SECOND: second, "tgt": str(at % 2), "text": str(at)}
        for at, (first, second) in enumerate(pairs)
    ]
    found = read_tasks({"source": make_pool(rows)})["source"]["pairs"]
    assert list(zip(found.first, found.second or (), strict=True)) == pairs
    without = read_tasks({"source": make_pool([{**row, SECOND: None, "src": "a\nb"} for row in rows] + [{**rows[0], "task": "other"}])})
    assert without["source"]["pairs"].second is None
    assert list(without["source"]["pairs"].first) == ["a\nb"] * 4
    assert without["source"]["other"].second == ["a cat"]


def test_numbers() -> None:
    pool = pool_of({"n": ["1", "-2.5", "1e3"], "c": ["1", "2", "1"]}, kinds={"n": NUMBERS})
    found = read_tasks({"source": pool})["source"]
    assert found["n"].labels.tolist() == [1.0, -2.5, 1000.0]
    assert (found["n"].is_regression, found["n"].num_outputs, list(found["n"].classes)) == (True, 1, [])
    assert not found["c"].is_regression


@pytest.mark.parametrize(("bad", "place"), [("many", 2), ("nan", 1), ("inf", 1), ("1e999", 2), ("", 1)])
def test_a_label_that_is_no_number(bad: str, place: int) -> None:
    labels = ["1", "2", "3", "x"]
    labels[place] = bad
    message = rf"task n: the label of row 'n-{place}' is {bad!r}, no finite number.* take n out of data\.regression="
    with pytest.raises(InputError, match=message):
        read_tasks({"source": pool_of({"n": labels}, kinds={"n": NUMBERS})})


def test_take() -> None:
    some = task().take(np.array([2, 0, 2]))
    assert (some.first, some.second, some.labels.tolist(), some.ids) == (
        ["c", "a", "c"],
        ["z", "x", "z"],
        [0, 0, 0],
        ["one-2", "one-0", "one-2"],
    )
    assert task(second=None).take(np.array([1])).second is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.array([1, 1, 1])}, "task one: all of its 3 rows are of class 'yes'; there must be two classes or more"),
        ({"labels": np.array([0, 1, 2]), "classes": ("a", "b", "c")}, r"task one: 3 classes for 3 rows; .* add one to data\.regression="),
        ({"labels": np.array([2.5, 2.5, 2.5]), "classes": ()}, r"task one: all of its 3 labels are 2\.5; a regression needs a target that"),
    ],
)
def test_nothing_can_be_learnt(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        task(**changes).check()
    assert "\n" not in str(raised.value)


def test_something_can_be_learnt() -> None:
    classes = task()
    assert classes.check() is classes
    numbers = task(labels=np.array([0.0, 1.0, 2.0]), classes=())
    assert numbers.check() is numbers  # numbers need not repeat


def test_fingerprints() -> None:
    """By content; a task's name, its rows' ids and how columns are held are none."""
    same = [task(name="two"), task(ids=["x", "y", "z"]), task(first=("a", "b", "c")), task(classes=["no", "yes"])]
    assert {each.fingerprint for each in same} == {task().fingerprint}
    others = [
        task(first=["a", "b", "d"]), task(second=None), task(second=["x", "", "z"]), task(labels=np.array([0, 1, 1])),
        task(classes=("no", "maybe")), task(labels=np.array([0.0, 1.0, 0.0]), classes=()), task(first=["b", "a", "c"]),
        task(first=["a", "b', 'c", "c"]),
    ]  # fmt: skip
    assert len({each.fingerprint for each in [task(), *others]}) == len(others) + 1


def test_a_fingerprint_is_made_once() -> None:
    own = task()
    assert own.fingerprint is own.fingerprint
    assert own.take(np.array([0, 1])).fingerprint != own.fingerprint
