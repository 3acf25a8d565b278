"""What is tuned, embedded and fitted: each once, by what it hangs on, and the same wherever it is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from ranking_lab import RankingLab, task_of, tuning
from safetensors.numpy import load_file

from dsel.artifact import DONE, Store
from dsel.error import InputError
from dsel.functional.fisher import diagonal_fisher
from dsel.functional.linear_probe import fit_probe
from dsel.functional.space_map import apply, fit_ridge, fit_sgd
from dsel.phase.map_fitting import MapFitting
from dsel.phase.workbench import FISHER_SEED, Workbench
from dsel.training.fit import fit


@pytest.fixture
def bench(ranking: RankingLab, tmp_path: Path) -> Workbench:
    """With nothing on disk."""
    return replace(ranking.bench, store=Store(tmp_path / "artifacts"), tuning=tuning(), cut={}, _tokens={})


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The labels of all trainings; the real ones."""
    asked: list[str] = []

    def counted(*given: Any, **more: Any) -> Any:
        asked.append(given[7])
        return fit(*given, **more)

    monkeypatch.setattr("dsel.training.fit.fit", counted)
    return asked


def made(bench: Workbench) -> list[str]:
    """Finished artifacts."""
    return sorted(path.parent.name.partition("-")[0] for path in bench.store.root.glob(f"*/{DONE}"))


def test_everything_once(bench: Workbench, ranking: RankingLab, trainings: list[str]) -> None:
    source = bench.sources["animal"]
    seen = bench.seen(source, ranking.target)
    bench.space_map(source)
    bench.transfer(source, ranking.target, ranking.test)
    before = made(bench)
    assert trainings == ["tune animal", "tune goal"]
    assert before == ["map", *["seen"] * 4, *["tuned"] * 2]  # under base, tuned on it twice, and the test
    again = replace(bench, store=Store(bench.store.root), _tokens={})
    np.testing.assert_array_equal(again.seen(source, ranking.target).outputs, seen.outputs)
    again.space_map(source)
    again.transfer(source, ranking.target, ranking.test)
    assert made(again) == before
    assert len(trainings) == 2


def test_the_same_rows_under_another_name(bench: Workbench, trainings: list[str]) -> None:
    """Share their model, their embeddings and their map."""
    one, other = task_of("size", 30, 5, "one"), task_of("size", 30, 5, "two")
    assert bench.tuned(one) == bench.tuned(other)
    assert bench.space_map(one)[1] == bench.space_map(other)[1]
    assert trainings == ["tune one"]
    bench.tuned(replace(one, labels=1 - one.labels))
    assert len(trainings) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"tuning": tuning(learning_rate=0.02)},
        {"tuning": tuning(min_steps=7)},
        {"context": 10},
        {"pooling": "cls"},
        {"key": "b"},
    ],
    ids=str,
)
def test_what_a_model_hangs_on(bench: Workbench, changes: dict[str, Any]) -> None:
    source = bench.sources["size"]
    own = {key: changes[key] for key in ("seed", "tuning") if key in changes}
    base = replace(bench.base, **{key: value for key, value in changes.items() if key not in own})
    assert replace(bench, base=base, _tokens={}, **own).tuned(source) != bench.tuned(source)


def test_elsewhere_the_same(bench: Workbench, tmp_path: Path, ranking: RankingLab) -> None:
    """Whatever was made before it."""
    other = replace(bench, store=Store(tmp_path / "other"), _tokens={})
    other.tuned(bench.sources["length"])
    source = bench.sources["animal"]
    one, two = (each.seen(source, ranking.target) for each in (bench, other))
    np.testing.assert_array_equal(one.outputs, two.outputs)
    np.testing.assert_array_equal(bench.fisher(source), other.fisher(source))
    for name in ("weight", "bias"):
        np.testing.assert_array_equal(getattr(bench.space_map(source)[0], name), getattr(other.space_map(source)[0], name))


def test_global_random_state_is_left_alone(bench: Workbench, ranking: RankingLab) -> None:
    before, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    bench.transfer(bench.sources["animal"], ranking.target, ranking.test)
    bench.fisher(ranking.target)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], legacy)  # type: ignore[index]  # noqa: NPY002


@pytest.mark.parametrize("stage", ["dsel.functional.task_model.TaskModel.save", "dsel.functional.task_model.run_rows"])
def test_killed_and_resumed(
    bench: Workbench, tmp_path: Path, ranking: RankingLab, monkeypatch: pytest.MonkeyPatch, trainings: list[str], stage: str
) -> None:
    names, where = list(bench.sources), stage.rpartition(".")
    whole = [bench.transfer(bench.sources[name], ranking.target, ranking.test) for name in names]
    resumed = replace(bench, store=Store(tmp_path / "killed"), _tokens={})
    import dsel.functional.task_model as module

    owner = module.TaskModel if where[2] == "save" else module
    real, calls = getattr(owner, where[2]), []

    def killed(*given: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*given, **more)

    with monkeypatch.context() as patched:
        patched.setattr(owner, where[2], killed)
        with pytest.raises(KeyboardInterrupt):
            [resumed.transfer(resumed.sources[name], ranking.target, ranking.test) for name in names]
    assert 0 < len(made(resumed)) < len(made(bench))
    trainings.clear()
    again = replace(resumed, store=Store(tmp_path / "killed"), _tokens={})
    assert [again.transfer(again.sources[name], ranking.target, ranking.test) for name in names] == whole
    assert made(again) == made(bench)
    assert 0 < len(trainings) < 2 * len(names)  # what was finished is not made again


def test_a_transfer_is_the_accuracy_on_the_test_rows(bench: Workbench, ranking: RankingLab) -> None:
    """Beginning from the source's encoder with a head that is new."""
    found = bench.transfer(bench.sources["colour"], ranking.target, ranking.test)
    key = bench._key(ranking.target.fingerprint, repr(bench.tuning), 0, 0, bench.tuned(bench.sources["colour"]).name)
    seen = bench._look("", ranking.test, lambda: pytest.fail("is on disk"), f"tuned-{key}")
    assert found == (seen.outputs.argmax(1) == ranking.test.labels).mean()
    weight = bench.transfer(None, ranking.weight, task_of("length", 30, 40, "weight"))
    assert -1 <= weight <= 1


def test_the_correlation_of_a_regression(bench: Workbench, ranking: RankingLab) -> None:
    test = task_of("length", 30, 40, "weight")
    long = replace(bench, tuning=tuning(min_steps=40))
    found = long.transfer(None, ranking.weight, test)
    outputs = long.seen(ranking.weight, test).outputs[:, 0].astype(np.float64)
    assert found == pytest.approx(scipy.stats.pearsonr(outputs, test.labels).statistic)
    assert found > 0.3


def test_it_learns_and_a_source_helps(ranking: RankingLab) -> None:
    bench = replace(ranking.bench)
    few = ranking.target.take(np.arange(20))
    short = replace(bench, tuning=replace(bench.tuning, min_steps=40))
    through = short.transfer(short.sources["colour"], few, ranking.test)
    assert through >= short.transfer(None, few, ranking.test)
    assert through > 0.9


def test_repeats_differ(bench: Workbench, ranking: RankingLab, tmp_path: Path) -> None:
    """By head and order, and are the same in another store."""
    source, other = bench.sources["animal"], replace(bench, store=Store(tmp_path / "other"), _tokens={})

    def outputs(own: Workbench, repeat: int) -> Any:
        folder = own._tune(ranking.target, source, repeat)
        return load_file(folder / "head.safetensors")["weight"]

    assert not np.array_equal(outputs(bench, 0), outputs(bench, 1))
    for repeat in range(2):
        np.testing.assert_array_equal(outputs(bench, repeat), outputs(other, repeat))
        given = (source, ranking.target, ranking.test, repeat)
        assert bench.transfer(*given) == other.transfer(*given)


@pytest.mark.parametrize("rank", [None, 3])
@pytest.mark.parametrize("method", ["ridge", "sgd"])
def test_maps(bench: Workbench, method: str, rank: int | None) -> None:
    """From the base's embeddings of the source's rows to the tuned model's."""
    source, own = bench.sources["colour"], replace(bench, fitting=MapFitting(method, (0.5,), 0.1, rank))
    found, folder = own.space_map(source)
    base, tuned = own.embed(source), own.seen(source, source).embeddings
    seed = own._seed("map")
    fitted = (
        fit_ridge(base, tuned, (0.5,), rank=rank, seed=seed)
        if method == "ridge"
        else fit_sgd(base, tuned, rank=rank, held_out_share=0.1, seed=seed)
    )
    np.testing.assert_allclose(apply(found, base), apply(fitted, base), atol=1e-5)
    assert folder is not None
    assert own.prepare("map", source) == sum(path.stat().st_size for path in folder.glob("*.safetensors")) > 0
    assert replace(own, fitting=MapFitting(method, (0.7,), 0.1, rank)).space_map(source)[1] != folder


def test_fisher(bench: Workbench, ranking: RankingLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """On some of the rows, under a head that was fitted to them."""
    monkeypatch.setattr("dsel.phase.workbench.FISHER_ROWS", 15)
    order = np.random.default_rng(FISHER_SEED).permutation(40)[:15]
    for task in (ranking.target, ranking.weight):
        part = task.take(order)
        model = bench.base.model(task.num_outputs, 7).eval()
        weight, bias = fit_probe(bench.embed(part), part.labels, task.num_outputs, regression=task.is_regression)
        with torch.no_grad():
            model.head.weight.copy_(torch.from_numpy(weight))
            model.head.bias.copy_(torch.from_numpy(bias))
        expected = diagonal_fisher(model, bench.tokens(part), part.labels, bench.base.context)
        np.testing.assert_allclose(bench.fisher(task), expected, rtol=1e-3, atol=1e-5 * expected.max())


def test_what_is_kept_of_a_source(bench: Workbench) -> None:
    source = bench.sources["animal"]
    assert bench.prepare("embedding", source) == 4 * 16
    assert bench.prepare("tokens", source) == 4 * len({*bench.tokens(source).flat.tolist()})
    assert bench.prepare("fisher", source) == 4 * len(bench.fisher(source))
    files = [path.stat().st_size for path in bench.tuned(source).rglob("*.safetensors")]
    assert bench.prepare("tuned", source) == sum(files) > 4 * 16 * 60


def test_rows_that_are_cut_are_counted(bench: Workbench) -> None:
    long = replace(bench.sources["size"], first=["red " * 30, *bench.sources["size"].first[1:]])
    bench.tokens(long)
    bench.tokens(bench.sources["colour"])
    assert bench.cut == {"size": 1}


def test_rows_that_are_cut_are_those_of_the_whole_task(bench: Workbench, ranking: RankingLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever parts of it are looked at, whose tokens are the whole's."""
    monkeypatch.setattr("dsel.phase.workbench.FISHER_ROWS", 15)
    target = replace(ranking.target, first=["red " * 30, *ranking.target.first[1:39], "blue " * 30])
    whole = bench.tokens(target)
    assert bench.cut == {"goal": 2}
    rows = np.array([7, 39, 7, 2])
    own = [whole.flat[whole.offsets[row] : whole.offsets[row + 1]] for row in rows]
    np.testing.assert_array_equal(bench.context(target, rows).tokens(None), np.concatenate(own))
    np.testing.assert_array_equal(bench.context(target, rows).tokens("size"), bench.tokens(bench.sources["size"]).flat)
    bench.context(target, rows[:1]).tokens(None)
    bench.fisher(target)
    assert bench.cut == {"goal": 2}


def test_an_embedding_that_is_not_finite(bench: Workbench, ranking: RankingLab, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        rows = np.zeros((40, 16), np.float32)
        rows[[4, 9]] = np.nan
        return rows, rows

    monkeypatch.setattr("dsel.functional.task_model.run_rows", broken)
    with pytest.raises(InputError, match=r"task goal: the embedding of row 'goal-4' under base is not finite \(2 rows in all\)"):
        bench.embed(ranking.target)
    assert made(bench) == []


def test_a_map_of_another_method() -> None:
    with pytest.raises(InputError, match=r"map\.method='lasso': must be ridge or sgd"):
        MapFitting("lasso")


def test_seconds_are_kept(bench: Workbench) -> None:
    folder = bench.tuned(bench.sources["animal"])
    again = Store(bench.store.root)
    assert replace(bench, store=again).tuned(bench.sources["animal"]) == folder
    assert again.saved > 0
