"""Fine-tuning on labels: how many steps, what it learns, and its scale of numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ranking_lab import RankingLab, task_of, tuning

from dsel.error import InputError
from dsel.functional.linear_probe import performance
from dsel.functional.task_model import run_rows


@pytest.mark.parametrize(("num_rows", "steps"), [(1, 6), (96, 6), (97, 7), (160, 10)])
def test_steps(num_rows: int, steps: int) -> None:
    assert tuning(num_epochs=1, batch_size=16, min_steps=6).num_steps(num_rows) == steps
    assert tuning(num_epochs=3, batch_size=16, min_steps=1).num_steps(num_rows) == 3 * -(-num_rows // 16)


@pytest.mark.parametrize("rule", ["colour", "length"])
def test_it_learns(ranking: RankingLab, rule: str) -> None:
    task, test, base = task_of(rule, 60, 1), task_of(rule, 60, 2), ranking.base
    model = base.model(task.num_outputs, 0)
    tokens, others = (base.encode(each, base.tokenizer())[0] for each in (task, test))
    before = performance(run_rows(model.eval(), others, 12, 999)[1], test.labels, regression=task.is_regression)
    mean, scale = tuning(min_steps=40).fit(model, tokens, task, 12, 0)
    assert not model.training
    after = performance(run_rows(model, others, 12, 999)[1], test.labels, regression=task.is_regression)
    assert after > max(before, 0.5)
    if rule == "length":
        assert (mean, scale) == pytest.approx((task.labels.mean(), task.labels.std()))
    else:
        assert (mean, scale) == (0.0, 1.0)


def test_the_unit_of_numbers_does_not_matter(ranking: RankingLab) -> None:
    task, base, outputs = task_of("length", 60, 1), ranking.base, []
    tokens = base.encode(task, base.tokenizer())[0]
    for labels in (task.labels, 1000 * task.labels - 3e5):
        model = base.model(1, 0)
        tuning(min_steps=10).fit(model, tokens, replace(task, labels=labels), 12, 0)
        outputs.append(run_rows(model, tokens, 12, 999)[1])
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-3)


def test_it_hangs_on_its_seed(ranking: RankingLab) -> None:
    task, base, outputs = task_of("colour", 60, 1), ranking.base, []
    tokens = base.encode(task, base.tokenizer())[0]
    for seed in (0, 0, 1):
        model = base.model(2, 0)
        tuning().fit(model, tokens, task, 12, seed)
        outputs.append(run_rows(model, tokens, 12, 999)[1])
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "steep"}, r"tuning\.schedule='steep': must be one of"),
        ({"num_epochs": 0}, "tuning: num_epochs=0, batch_size=16: must be 1 or more"),
        ({"batch_size": 0}, "tuning: num_epochs=1, batch_size=0: must be 1 or more"),
        ({"warmup": 1.0}, r"tuning\.warmup=1\.0: is a share of the steps, 0 or more and below 1"),
    ],
)
def test_mistakes(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tuning(**changes)
