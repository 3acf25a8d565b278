"""Sums: are they right where they should be, wrong where they are marked, and each its own?"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsel.corpus import Split, prepare
from dsel.data.addition import Addition, write_steps
from dsel.error import InputError

SMALL = Addition(num_clean=3, num_noisy=2, group_size=10, num_target=50)


def rows(data: Addition, side: str = "source") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = getattr(data.read(), side).to_pylist()
    return found


def add_by_hand(question: str) -> str:
    """Digit by digit from the last one on, as in school."""
    left, right = (side.split() for side in question.split(" + "))
    carry, done, lines = 0, "", []
    for a, b in zip(reversed(left), reversed(right), strict=True):
        total = int(a) + int(b) + carry
        carry, done = total // 10, str(total % 10) + done
        lines.append(" ".join(f"{carry}{done}"))
    lines[-1] = lines[-1] if carry else lines[-1][2:]  # a sum does not begin with 0
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("left", "right", "steps"),
    [
        (67013, 23924, "0 7\n0 3 7\n0 9 3 7\n1 0 9 3 7\n9 0 9 3 7"),
        (97990, 53728, "0 8\n1 1 8\n1 7 1 8\n1 1 7 1 8\n1 5 1 7 1 8"),
        (4, 5, "9"),
        (5, 5, "1 0"),
    ],
)
def test_the_format_is_the_authors(left: int, right: int, steps: str) -> None:
    assert write_steps(left, right) == steps


@settings(deadline=None, max_examples=30)
@given(num_digits=st.integers(2, 12), seed=st.integers(0, 9))
def test_sums_are_right_but_where_they_are_marked(num_digits: int, seed: int) -> None:
    data = replace(SMALL, num_digits=num_digits, seed=seed, noise=0.5)
    for row in rows(data) + rows(data, "target"):
        left, right = row["src"].replace(" ", "").split("+")
        assert len(left) == len(right) == num_digits
        assert left[0] != "0" != right[0]
        right_answer = add_by_hand(row["src"])
        if row["dsel_noise"] is None:
            assert row["tgt"] == right_answer
            assert row["tgt"].split("\n")[-1].replace(" ", "") == str(int(left) + int(right))
        else:
            assert row["dsel_noise"] == "random"
            assert row["tgt"] != right_answer
            assert [len(line) for line in row["tgt"].split("\n")] == [len(line) for line in right_answer.split("\n")]


def test_groups() -> None:
    docs = Addition().read()
    counts = Counter(docs.source["task"].to_pylist())
    assert counts == {f"clean_{i:02d}": 25 for i in range(12)} | {f"noisy_{i:02d}": 25 for i in range(8)}
    assert set(docs.target["task"].to_pylist()) == {"addition"}
    noisy = {row["task"] for row in docs.source.to_pylist() if row["dsel_noise"]}
    assert noisy == {f"noisy_{i:02d}" for i in range(8)}
    assert docs.source["dsel_noise"].null_count == 12 * 25
    assert docs.target["dsel_noise"].null_count == docs.target.num_rows == 1000


def test_no_question_comes_twice(tmp_path: Path) -> None:
    docs = Addition().read()
    questions = docs.source["src"].to_pylist() + docs.target["src"].to_pylist()
    assert len(set(questions)) == len(questions) == 1500
    assert prepare(docs, Split(), tmp_path)["dropped"] == {"source": {}, "target": {}}


def test_all_sums_there_are() -> None:
    data = Addition(num_clean=4, num_noisy=4, group_size=9, num_target=9, num_digits=1)
    questions = [row["src"] for row in rows(data) + rows(data, "target")]
    assert sorted(questions) == [f"{a} + {b}" for a in range(1, 10) for b in range(1, 10)]


def test_questions_are_spread_evenly() -> None:
    digits = Counter("".join(row["src"] for row in rows(replace(SMALL, num_target=3000), "target")))
    for digit in "0123456789":  # 24000 of them are uniform, 6000 are first ones, and never 0
        assert digits[digit] == pytest.approx(2400 + 667 * (digit != "0"), rel=0.1)


def test_random_digits_are_uniform() -> None:
    answers = "".join(row["tgt"] for row in rows(replace(SMALL, num_clean=0, group_size=500)))
    digits = Counter(filter(str.isdigit, answers))
    for digit in "0123456789":
        assert digits[digit] / digits.total() == pytest.approx(0.1, rel=0.1)


def test_a_group_does_not_hang_on_the_others() -> None:
    few, many = rows(SMALL), rows(replace(SMALL, num_clean=12, num_noisy=9, num_target=70))
    assert [row for row in many if row["task"] in {each["task"] for each in few}] == few
    assert rows(replace(SMALL, num_target=70), "target")[:50] == rows(SMALL, "target")
    other = rows(replace(SMALL, seed=1))
    assert not {row["src"] for row in other} & {row["src"] for row in few}


@pytest.mark.parametrize(("noise", "count"), [(0.0, 0), (0.3, 3), (1.0, 10)])
def test_share_of_noise(noise: float, count: int) -> None:
    found = Counter(row["task"] for row in rows(replace(SMALL, noise=noise)) if row["dsel_noise"])
    assert found == ({"noisy_00": count, "noisy_01": count} if count else {})


def test_identity() -> None:
    assert Addition().identity() == Addition().identity() != Addition(seed=1).identity()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_clean": -1}, r"data.num_clean=-1: must be at least 0"),
        ({"num_noisy": -1}, r"data.num_noisy=-1: must be at least 0"),
        ({"num_clean": 1, "num_noisy": 0}, r"data.num_clean=1, data.num_noisy=0: 1 groups leave .* raise them"),
        ({"group_size": 0}, r"data.group_size=0: must be at least 1"),
        ({"num_target": 0}, r"data.num_target=0: must be at least 1"),
        ({"num_digits": 0}, r"data.num_digits=0: must be at least 1"),
        ({"noise": 1.1}, r"data.noise=1.1: must be between 0 and 1"),
        ({"num_digits": 1}, r"data.num_digits=1: there are 81 sums, too few .*data.num_target=1000.*raise data.num_digits"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        Addition(**options)
    assert "\n" not in str(error.value)
