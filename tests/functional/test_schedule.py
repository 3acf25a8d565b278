"""Learning-rate schedules: functions of the step alone."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsel.functional.schedule import SCHEDULES, multiplier


@given(schedule=st.sampled_from(SCHEDULES), warmup=st.integers(0, 30), total=st.integers(1, 200))
def test_rises_to_the_peak_then_never_rises(schedule: str, warmup: int, total: int) -> None:
    values = [multiplier(step, schedule, warmup, total) for step in range(total + 1)]
    assert all(0 <= value <= 1 + 1e-12 for value in values)
    rising = values[: min(warmup, len(values))]
    assert rising == pytest.approx([(step + 1) / warmup for step in range(len(rising))])
    falling = values[warmup:]
    assert all(a >= b - 1e-12 for a, b in pairwise(falling))
    if warmup < total:
        assert falling[0] == pytest.approx(1.0 if schedule != "inverse_sqrt" else math.sqrt(max(warmup, 1) / (warmup + 1)))


def test_where_each_ends() -> None:
    ends = {schedule: multiplier(100, schedule, 10, 100) for schedule in SCHEDULES}
    assert ends == pytest.approx({"cosine": 0.1, "linear": 0.0, "constant": 1.0, "inverse_sqrt": math.sqrt(10 / 101)})
    assert multiplier(55, "cosine", 10, 100) == pytest.approx(0.55)
    assert multiplier(5000, "cosine", 10, 100) == pytest.approx(0.1)  # past the end it stays there
