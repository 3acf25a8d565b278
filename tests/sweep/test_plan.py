"""The plan of a sweep: cells keep their numbers, jobs never share one, and a file that is no plan is named."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dsel.error import InputError
from dsel.sweep.plan import SWEEP, Launch, add_launch, read_plan


def launch(*arguments: str) -> Launch:
    return Launch(list(arguments), ".", "outputs", "here", 1, 0.0)


def test_no_sweep_has_no_plan(tmp_path: Path) -> None:
    assert read_plan(tmp_path) is None


def test_cells_keep_their_numbers_and_jobs_go_on(tmp_path: Path) -> None:
    first = add_launch(tmp_path, [("a", ["x=1"]), ("b", ["x=2"])], launch("x=1,2"))
    second = add_launch(tmp_path, [("b", ["x=2"]), ("c", ["x=3"])], launch("x=2,3"))
    third = add_launch(tmp_path, [("d", ["x=4"])], launch("x=4"))
    assert (first.cells, second.cells, third.cells) == ((0, 1), (1, 2), (3,))
    assert (first.first_job, second.first_job, third.first_job) == (0, 2, 4)
    plan = read_plan(tmp_path)
    assert plan is not None
    assert [cell.number for cell in plan.cells.values()] == [0, 1, 2, 3]
    assert plan.launch_of(plan.cells["b"]).arguments == ["x=2,3"]
    assert plan.launch_of(plan.cells["a"]).arguments == ["x=1,2"]


def test_two_sweeps_in_one_folder_lose_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        launches = list(threads.map(lambda number: add_launch(tmp_path, [(f"c{number}", [])], launch(str(number))), range(24)))
    plan = read_plan(tmp_path)
    assert plan is not None
    assert sorted(each.first_job for each in launches) == list(range(24))
    assert sorted(cell.number for cell in plan.cells.values()) == list(range(24))


@pytest.mark.parametrize("text", ["", "[]", '{"cells": [{}], "launches": []}', '{"cells": []}'])
def test_a_file_that_is_no_plan_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / SWEEP).write_text(text)
    with pytest.raises(InputError, match=r"sweep.json: not the plan of a sweep .*; move it away"):
        read_plan(tmp_path)
