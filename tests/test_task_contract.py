"""What every estimator and every selector of tasks promises. They are found by their yaml: a new one is tested by being there."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_corpus import RandomState, permuted
from task_lab import TaskLab

from dsel import cli
from dsel.error import InputError
from dsel.pool import Budget, Pool, fingerprint_table
from dsel.protocol import Estimate
from dsel.scores import Scores
from dsel.selection import Selection

UNIT_SELECTORS = ("by_score",)  # tests/test_contract.py
SMALL = {"gradex": ["estimator.dim=32"], "gradient_cosine": ["estimator.dim=32"], "calibrated": ["estimator.estimator.dim=32"]}
SMALL["random_ensemble"] = ["selector.num_subsets=20"]
SUBSETS = np.array([mask for size in (1, 2, 5) for mask in (np.isin(np.arange(6), some) for some in combinations(range(6), size))][::3])


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (cli.CONF / group).glob("*.yaml"))


def context(tasks: TaskLab, pool: Pool) -> Any:
    values = np.random.default_rng(0).normal(size=(len(tasks.source), 1)).astype(np.float32)
    by_id = dict(zip(tasks.source.ids(), values, strict=True))
    return tasks.context(scores=Scores(np.stack([by_id[name] for name in pool.ids()]), pool.fingerprint))


@pytest.fixture(params=names("estimator"))
def estimator(request: pytest.FixtureRequest, tasks: TaskLab) -> Any:
    return tasks.component("estimator", request.param, *SMALL.get(request.param, []))


@pytest.fixture
def estimate(estimator: Any, tasks: TaskLab) -> Estimate:
    fitted: Estimate = estimator.fit(tasks.source, tasks.target, context(tasks, tasks.source))
    return fitted


def test_estimates_are_finite_and_one_a_subset(estimate: Estimate, tasks: TaskLab) -> None:
    losses = estimate(SUBSETS)
    assert losses.shape in ((len(SUBSETS), 1), (len(SUBSETS), len(tasks.target)))
    assert np.isfinite(losses).all()
    assert len(np.unique(losses.mean(1))) > 1
    assert estimate.flops(10) > 0
    assert estimate.work.seconds >= 0


def test_subsets_do_not_change_each_other(estimate: Estimate) -> None:
    together = estimate(SUBSETS)
    apart = np.concatenate([estimate(SUBSETS[at : at + 1]) for at in range(len(SUBSETS))])
    np.testing.assert_allclose(apart, together, rtol=5e-5, atol=1e-9)  # as closely as weights are solved for
    np.testing.assert_allclose(estimate(SUBSETS[::-1]), together[::-1], rtol=1e-6, atol=1e-9)


def test_the_order_of_the_pool_does_not_matter(estimator: Any, estimate: Estimate, tasks: TaskLab) -> None:
    pool, _ = permuted(tasks.world.corpus.source)
    pool = tasks.world.tokenized(pool)
    again = estimator.fit(pool, tasks.target, context(tasks, pool))(SUBSETS)
    if type(estimator).__name__ in ("Retrain", "Calibrated"):
        return  # batches come in the order of the pool, and so does what training makes of them
    np.testing.assert_allclose(again.mean(1), estimate(SUBSETS).mean(1), rtol=2e-4, atol=1e-6)


def test_estimating_leaves_no_trace(estimator: Any, tasks: TaskLab) -> None:
    before = RandomState.now(), fingerprint_table(tasks.source.table)
    checkpoint = tasks.state.checkpoint_of(None)
    assert checkpoint is not None
    stored = (checkpoint / "model" / "model.safetensors").read_bytes()
    one, two = (estimator.fit(tasks.source, tasks.target, context(tasks, tasks.source))(SUBSETS) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert (RandomState.now(), fingerprint_table(tasks.source.table)) == before
    assert (checkpoint / "model" / "model.safetensors").read_bytes() == stored


def test_wrong_masks_are_refused(estimate: Estimate) -> None:
    with pytest.raises(InputError, match="a subset mask has 4 columns, there are 6 tasks; give one column per task"):
        estimate(np.ones((2, 4), bool))
    with pytest.raises(InputError, match="subset 1: holds no task"):
        estimate(np.eye(6, dtype=bool)[[0, 1, 2]] & np.array([[True], [False], [True]]))


# --- selectors


@pytest.fixture(params=[name for name in names("selector") if name not in UNIT_SELECTORS])
def selector(request: pytest.FixtureRequest, tasks: TaskLab) -> Any:
    small = [f"estimator={'gradient_cosine' if request.param == 'top_tasks' else 'gradex'}", "estimator.dim=32"]
    return tasks.component("selector", request.param, *small, *SMALL.get(request.param, []))


def chosen_tasks(selection: Selection, source: Pool) -> list[int]:
    _, numbers = source.tasks()
    return list(dict.fromkeys(numbers[selection.units].tolist()))


@pytest.mark.parametrize("budget", [Budget(units=1), Budget(units=4), Budget(fraction=0.5), Budget(fraction=1.0)])
def test_whole_tasks_are_chosen_within_the_budget(selector: Any, tasks: TaskLab, budget: Budget) -> None:
    selection = selector.select(tasks.source, tasks.target, budget, context(tasks, tasks.source))
    chosen = chosen_tasks(selection, tasks.source)
    _, numbers = tasks.source.tasks()
    assert 1 <= len(chosen) <= budget.count_tasks(6)
    assert sorted(selection.units) == np.flatnonzero(np.isin(numbers, chosen)).tolist()
    assert len(set(selection.units.tolist())) == len(selection.units)


def test_the_same_tasks_whatever_the_order(selector: Any, tasks: TaskLab) -> None:
    pool, _ = permuted(tasks.world.corpus.source)
    pool = tasks.world.tokenized(pool)
    budget = Budget(units=3)
    one, two, other = (selector.select(p, tasks.target, budget, context(tasks, p)) for p in (tasks.source, tasks.source, pool))
    assert one.units.tolist() == two.units.tolist()
    assert chosen_tasks(one, tasks.source) == chosen_tasks(other, pool)


def test_selection_of_tasks_survives_the_disk(selector: Any, tasks: TaskLab, tmp_path: Path) -> None:
    selection = selector.select(tasks.source, tasks.target, Budget(units=2), context(tasks, tasks.source))
    selection.save(tmp_path, tasks.source)
    loaded = Selection.load(tmp_path)
    assert loaded.units.tolist() == selection.units.tolist()
    assert loaded.provenance["tasks"] == selection.provenance["tasks"]


def test_budgets_count_tasks(selector: Any, tasks: TaskLab) -> None:
    with pytest.raises(InputError, match=r"budget\.units=7: there are 6 tasks"):
        selector.select(tasks.source, tasks.target, Budget(units=7), context(tasks, tasks.source))
    with pytest.raises(InputError, match=r"budget\.tokens=9: tasks are counted"):
        selector.select(tasks.source, tasks.target, Budget(tokens=9), context(tasks, tasks.source))


def test_a_pool_without_tasks_is_refused(selector: Any, tasks: TaskLab) -> None:
    bare = Pool("source", tasks.source.table.drop_columns(["task"]), "bare")
    with pytest.raises(InputError, match="its units belong to no tasks"):
        selector.select(bare, tasks.target, Budget(units=1), tasks.context())
