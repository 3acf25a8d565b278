"""What every component promises. Components are found by their yaml: a new one is tested by being there."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from laboratory import Lab
from made_up_corpus import TARGET_DOMAIN, RandomState, documents, make_pool, permuted, tiny_config

from dsel import cli
from dsel.artifact import Store, fingerprint, hash_module
from dsel.build import build
from dsel.context import Context, World
from dsel.error import InputError
from dsel.executor.local import Local
from dsel.phase.score import Score, map_pool
from dsel.pool import Budget, Pool, fingerprint_table
from dsel.protocol import FittedScore, Phase, Scorer, Selector
from dsel.remote import pack, unpack
from dsel.scores import Scores
from dsel.selector.by_score import ByScore
from dsel.state import State


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (cli.CONF / group).glob("*.yaml"))


@dataclass(frozen=True)
class Fit:
    """A scorer, what it was fitted to, and its scores of the lab's pool."""

    scorer: Scorer
    fitted: FittedScore
    scores: np.ndarray[Any, np.dtype[np.float32]]
    random_before: RandomState
    random_after: RandomState


def scorer_of(lab: Lab, name: str) -> Scorer:
    config = tiny_config(lab.source_file, lab.target_file, lab.store.root.parent, f"scorer={name}")
    scorer: Scorer = build(config["scorer"])
    return scorer


def score(
    fitted: FittedScore, scorer: Scorer, pool: Pool, workers: int = 1, shard_size: int = 4096
) -> np.ndarray[Any, np.dtype[np.float32]]:
    return map_pool(Local(workers), fitted, pool, list(scorer.reads), "score", shard_size)


@pytest.fixture(scope="module", params=names("scorer"))
def fit(request: pytest.FixtureRequest, lab: Lab) -> Fit:
    scorer, before = scorer_of(lab, request.param), RandomState.now()
    fitted = scorer.fit(lab.source, lab.target, lab.context())
    scores = score(fitted, scorer, lab.source)
    return Fit(scorer, fitted, scores, before, RandomState.now())


def is_blind(fit: Fit) -> bool:
    """Whether the target is not looked at."""
    return type(fit.scorer).__name__ in ("Random", "SelfInfluence")


def modules_of(value: Any) -> list[torch.nn.Module]:
    """Every model inside a fitted score."""
    if isinstance(value, torch.nn.Module):
        return [value]
    inside = [getattr(value, f.name) for f in fields(value)] if is_dataclass(value) else value if isinstance(value, tuple) else ()
    return [module for part in inside for module in modules_of(part)]


def with_batch_size(value: Any, size: int) -> Any:
    """The fitted score with every batch size in it changed."""
    if isinstance(value, tuple):
        return tuple(with_batch_size(part, size) for part in value)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    changes: dict[str, Any] = {f.name: with_batch_size(getattr(value, f.name), size) for f in fields(value)}
    return replace(value, **changes | {name: size for name in changes if name in ("batch_size", "tokens_per_batch")})


def test_scores_are_a_finite_float32_column(fit: Fit, lab: Lab) -> None:
    assert fit.scores.shape == (len(lab.source), 1)
    assert fit.scores.dtype == np.float32
    assert np.isfinite(fit.scores).all()
    assert len(np.unique(fit.scores)) > 1  # it tells units apart, though some may tie


def test_same_seed_same_scores(fit: Fit, lab: Lab) -> None:
    again = fit.scorer.fit(lab.source, lab.target, lab.context())
    np.testing.assert_array_equal(score(again, fit.scorer, lab.source), fit.scores)


def test_permuting_the_pool_permutes_the_scores(fit: Fit, lab: Lab) -> None:
    pool, order = permuted(lab.source)
    scores = score(fit.fitted, fit.scorer, pool)
    np.testing.assert_allclose(scores, fit.scores[order], rtol=1e-5, atol=1e-5)
    budget = Budget(units=40)
    chosen = [
        set(source.ids()[ByScore().select(source, lab.target, budget, lab.context(scores=Scores(values, source.fingerprint))).units])
        for source, values in ((lab.source, fit.scores), (pool, scores))
    ]
    assert chosen[0] == chosen[1]


@pytest.mark.parametrize(("workers", "shard_size"), [(1, 7), (2, 50)])
def test_shards_and_workers_do_not_change_the_scores(fit: Fit, lab: Lab, workers: int, shard_size: int) -> None:
    np.testing.assert_allclose(score(fit.fitted, fit.scorer, lab.source, workers, shard_size), fit.scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1, 50])
def test_batch_size_does_not_change_the_scores(fit: Fit, lab: Lab, size: int) -> None:
    changed = with_batch_size(fit.fitted, size)
    np.testing.assert_allclose(score(changed, fit.scorer, lab.source), fit.scores, rtol=1e-5, atol=1e-5)


def test_scoring_leaves_no_trace(fit: Fit, lab: Lab) -> None:
    """Inputs, models, checkpoints on disk and global random state stay as they are."""
    assert fit.random_before == fit.random_after
    tables = [fingerprint_table(pool.table) for pool in (lab.source, lab.target)]
    weights = [{k: v.clone() for k, v in model.state_dict().items()} for model in modules_of(fit.fitted)]
    checkpoint = lab.state.checkpoint_of(None)
    assert checkpoint is not None
    stored = (checkpoint / "model" / "model.safetensors").read_bytes()
    before = RandomState.now()
    again = fit.scorer.fit(lab.source, lab.target, lab.context())
    score(fit.fitted, fit.scorer, lab.source)
    score(again, fit.scorer, lab.source)
    assert RandomState.now() == before
    assert [fingerprint_table(pool.table) for pool in (lab.source, lab.target)] == tables
    for model, kept in zip(modules_of(fit.fitted), weights, strict=True):
        assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())
        assert not any(part.training for part in model.modules() if isinstance(part, torch.nn.Dropout))
    assert (checkpoint / "model" / "model.safetensors").read_bytes() == stored


def test_pickling_a_fitted_score_is_identity(fit: Fit, lab: Lab) -> None:
    for copy in (pickle.loads(pickle.dumps(fit.fitted)), unpack(pack(fit.fitted))):  # the second is how it goes to other machines
        np.testing.assert_array_equal(score(copy, fit.scorer, lab.source), fit.scores)


def test_useful_stands_above_harmful(fit: Fit, lab: Lab) -> None:
    """Unseen documents of the target's domain against unseen ones of another: larger means keep."""
    if is_blind(fit):
        pytest.skip("the target is not looked at")
    useful = [row["text"] for row in documents(TARGET_DOMAIN, 12, seed=1)]
    harmful = [row["text"] for row in documents("kitchen", 12, seed=1)]
    scores = score(fit.fitted, fit.scorer, lab.pool(useful + harmful))[:, 0]
    assert np.mean(scores[:12, None] > scores[None, 12:]) > 0.9


def test_a_score_that_is_not_finite_is_named(fit: Fit, lab: Lab) -> None:
    values = fit.scores.copy()
    values[17] = np.nan
    row = lab.source.table.slice(17, 1).to_pylist()[0]
    with pytest.raises(InputError, match=rf"row {row['dsel_row']}, id '{row['id']}'"):
        Scores(values, lab.source.fingerprint, {"scorer": "probe"}).check(lab.source)


def test_the_executor_needs_only_the_columns_it_names(fit: Fit, lab: Lab) -> None:
    assert fit.fitted(lab.source.table.select(list(fit.scorer.reads)).slice(0, 3)).shape == (3, 1)


@dataclass(frozen=True)
class Broken:
    """A scorer that finds no number for one unit."""

    reads = ("id",)

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        def broken(batch: pa.Table) -> np.ndarray[Any, np.dtype[np.float32]]:
            return np.where(np.arange(batch.num_rows) == 3, np.inf, 1.0).astype(np.float32)[:, None]

        return broken


def test_the_score_phase_refuses_scores_that_are_not_finite(lab: Lab, tmp_path: Path) -> None:
    row = lab.source.table.slice(3, 1).to_pylist()[0]
    with pytest.raises(InputError, match=rf"scorer Broken: 1 of .* row {row['dsel_row']}, id '{row['id']}'"):
        Score(Broken(), lab.tune).run(lab.state, lab.world, tmp_path)
    assert not (tmp_path / "scores.parquet").exists()


# --- selectors


@pytest.fixture(params=["by_score"])  # those of tasks: tests/test_task_contract.py
def selector(request: pytest.FixtureRequest, lab: Lab) -> Selector:
    config = tiny_config(lab.source_file, lab.target_file, lab.store.root.parent, f"selector={request.param}")
    selector: Selector = build(config["selector"])
    return selector


def scored(lab: Lab, pool: Pool) -> Context:
    """A context with scores that depend on the text alone; a third of them are ties."""
    values = np.array([float(len(text) % 37 // 3 * 3) for text in pool.table["text"].to_pylist()], dtype=np.float32)
    return lab.context("select", scores=Scores(values[:, None], pool.fingerprint, {"scorer": "probe"}))


BUDGETS = [Budget(units=1), Budget(units=33), Budget(fraction=0.25), Budget(fraction=1.0), Budget(tokens=700)]


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_selection_keeps_the_budget(selector: Selector, lab: Lab, budget: Budget) -> None:
    pool = lab.source
    units = selector.select(pool, lab.target, budget, scored(lab, pool)).units
    assert units.dtype == np.int64
    assert units.min() >= 0
    assert units.max() < len(pool)
    assert len(set(units.tolist())) == len(units)
    if budget.tokens is None:
        assert len(units) == budget.count(len(pool))
    else:
        assert pool.token_counts()[units].sum() <= budget.tokens


def test_same_seed_same_selection_whatever_the_order(selector: Selector, lab: Lab) -> None:
    pool, before = lab.source, RandomState.now()
    other, _ = permuted(pool)
    chosen = [list(p.ids()[selector.select(p, lab.target, Budget(units=50), scored(lab, p)).units]) for p in (pool, pool, other)]
    assert chosen[0] == chosen[1]
    assert set(chosen[0]) == set(chosen[2])
    assert RandomState.now() == before


def test_selection_leaves_its_inputs_alone(selector: Selector, lab: Lab) -> None:
    pool, context = lab.source, scored(lab, lab.source)
    assert context.scores is not None
    table, values = fingerprint_table(pool.table), context.scores.values.copy()
    selection = selector.select(pool, lab.target, Budget(units=20), context)
    assert fingerprint_table(pool.table) == table
    np.testing.assert_array_equal(context.scores.values, values)
    assert selection.fingerprint == pool.fingerprint


def test_selector_refuses_nan_and_scores_of_another_pool(selector: Selector, lab: Lab) -> None:
    pool = lab.source
    values = np.zeros((len(pool), 1), dtype=np.float32)
    values[5] = np.nan
    row = pool.table.slice(5, 1).to_pylist()[0]
    with pytest.raises(InputError, match=rf"row {row['dsel_row']}, id '{row['id']}'"):
        selector.select(pool, lab.target, Budget(units=2), lab.context(scores=Scores(values, pool.fingerprint)))
    with pytest.raises(InputError, match="made for pool other"):
        selector.select(pool, lab.target, Budget(units=2), lab.context(scores=Scores(values, "other")))


def test_selection_survives_the_disk(selector: Selector, lab: Lab, tmp_path: Path) -> None:
    selection = selector.select(lab.source, lab.target, Budget(units=20), scored(lab, lab.source))
    selection.save(tmp_path, lab.source)
    back = type(selection).load(tmp_path)
    np.testing.assert_array_equal(back.units, selection.units)
    np.testing.assert_array_equal(back.scores, selection.scores)
    assert (back.fingerprint, dict(back.provenance)) == (selection.fingerprint, dict(selection.provenance))


@pytest.mark.parametrize("reduce", ["mean", "max", "min"])
@pytest.mark.parametrize("keep", ["top", "bottom", "middle"])
def test_by_score_against_brute_force(lab: Lab, keep: str, reduce: str) -> None:
    pool = make_pool([{"text": str(i), "id": f"u{i}"} for i in range(31)])
    values = np.random.default_rng(3).normal(size=(31, 2)).astype(np.float32)
    value = [{"mean": (a + b) / 2, "max": max(a, b), "min": min(a, b)}[reduce] for a, b in values.tolist()]
    rank = sorted(range(31), key=lambda unit: -value[unit])
    expected = {
        "top": rank[:7],
        "bottom": rank[::-1][:7],
        "middle": [rank[place] for place in (15, 14, 16, 13, 17, 12, 18)],
    }[keep]
    context = lab.context(scores=Scores(values, pool.fingerprint))
    selection = ByScore(reduce=reduce, keep=keep).select(pool, pool, Budget(units=7), context)
    assert selection.units.tolist() == expected
    np.testing.assert_allclose(selection.scores, [value[unit] for unit in expected], rtol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_sampling_draws_in_proportion_to_exp_score(lab: Lab, temperature: float) -> None:
    """Gumbel top-k is sampling without replacement: ordered pairs against their exact probability, 4,000 seeds."""
    scores, draws = np.array([0.0, 1.0, -1.0, 0.5], dtype=np.float32), 4000
    pool = make_pool([{"text": str(i), "id": f"unit {i}"} for i in range(4)])
    context = lab.context(scores=Scores(scores[:, None], pool.fingerprint))
    method = ByScore(keep="sample", temperature=temperature)
    seen: Counter[tuple[int, ...]] = Counter()
    for seed in range(draws):
        selection = method.select(pool, pool, Budget(units=2), replace(context, rng=np.random.default_rng(seed)))
        seen[tuple(selection.units.tolist())] += 1
    weights = np.exp(scores.astype(np.float64) / temperature)
    for pair in permutations(range(4), 2):
        first = weights[pair[0]] / weights.sum()
        exact = first * weights[pair[1]] / (weights.sum() - weights[pair[0]])
        assert abs(seen[pair] / draws - exact) < 4.5 * np.sqrt(exact * (1 - exact) / draws), pair


def test_a_token_budget_takes_the_best_units_that_fit(lab: Lab) -> None:
    pool, context = lab.source, scored(lab, lab.source)
    order = ByScore().select(pool, pool, Budget(fraction=1.0), context).units
    lengths = pool.token_counts()
    for tokens in (1, 300, 1234, int(lengths.sum())):
        units = ByScore().select(pool, pool, Budget(tokens=tokens), context).units
        expected = 0
        while expected < len(order) and lengths[order[: expected + 1]].sum() <= tokens:
            expected += 1
        assert units.tolist() == order[: max(1, expected)].tolist()
    with pytest.raises(InputError, match=r"budget\.tokens=.* over the pool's size"):
        ByScore().select(pool, pool, Budget(tokens=int(lengths.sum()) + 1), context)
    bare = lab.world.corpus.source
    with pytest.raises(InputError, match=r"budget\.tokens"):
        ByScore().select(bare, bare, Budget(tokens=10), context)


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Budget(), "budget"),
        (lambda: Budget(units=1, tokens=3), r"budget\.units=1, budget\.tokens=3"),
        (lambda: Budget(units=0), r"budget\.units=0"),
        (lambda: Budget(units=True), r"budget\.units=True"),
        (lambda: Budget(fraction=1.5), r"budget\.fraction=1\.5"),
        (lambda: Budget(fraction="a tenth"), r"budget\.fraction='a tenth'"),  # type: ignore[arg-type]
        (lambda: Budget(units=11).count(10), r"budget\.units=11"),
        (lambda: ByScore(keep="best"), r"selector\.keep='best'"),
        (lambda: ByScore(reduce="sum"), r"selector\.reduce='sum'"),
        (lambda: ByScore(temperature=0), r"selector\.temperature=0"),
        (lambda: Local(num_workers=0), r"executor\.num_workers=0"),
    ],
)
def test_mistakes_name_their_key(make: Callable[[], Any], key: str) -> None:
    with pytest.raises(InputError, match=key):
        make()


# --- phases

FILL = {"suffix": "probe", "total_steps": 4}


AFTER_SCAN = ("appraise", "choose", "write")
AFTER_ATTRIBUTE = ("detect", "retrain", "tail_patch")
FEW_SETS = ("phases.probe.units=5", "phases.probe.num_sets=3", "phases.finetune.keep=last", "phases.finetune.patience=null")


OF_PAIRS = ("translate", "judge", "approximate")  # need another corpus: tests/phase
OF_LABELS = ("encoder", "rank", "transfer", "regret")  # likewise: tests/phase/test_ranking_contract.py


@pytest.fixture(params=[name for name in names("phase") if name not in OF_PAIRS + OF_LABELS])
def phase_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def before_probe(lab: Lab, phase_name: str) -> tuple[dict[str, Any], World, State]:
    """A run that has pretrained, scored and selected: any phase may follow."""
    config = json.loads(json.dumps(lab.config))
    config["pipeline"] = ["pretrain", "score", "select", "before"]
    if phase_name in AFTER_SCAN:
        overrides = ("scorer=random", f"output={lab.store.root / 'none.parquet'}", "budget.units=9")
        select = tiny_config(lab.source_file, lab.target_file, lab.store.root.parent, *overrides, experiment="select")
        config["phases"] |= {"score": select["phases"]["score"], "select": select["phases"]["select"]}
    config["phases"]["score"]["scorer"] = {"_target_": "dsel.scorer.random.Random"}
    if phase_name in AFTER_ATTRIBUTE:
        own = tiny_config(lab.source_file, lab.target_file, lab.store.root.parent, "+phase@phases.attribute=attribute", "scorer=random")
        config["phases"]["attribute"] = own["phases"]["attribute"]
        config["pipeline"].append("attribute")
    from dsel.pipeline import Run

    run = Run(config)
    return config, replace(run.world(lab.store), name="probe"), run.fold(lab.store)


@pytest.fixture
def phase_config(phase_name: str, lab: Lab, tmp_path: Path) -> dict[str, Any]:
    fill = [
        f"phases.probe.{key}={value}" for key, value in FILL.items() if f"{key}:" in (cli.CONF / "phase" / f"{phase_name}.yaml").read_text()
    ]
    fill += FEW_SETS if phase_name == "retrain" else ()
    output = f"output={tmp_path / 'chosen.parquet'}"
    overrides = [f"+phase@phases.probe={phase_name}", "scorer=domain_classifier", output, *fill]
    config = tiny_config(lab.source_file, lab.target_file, lab.store.root.parent, *overrides)
    probe: dict[str, Any] = config["phases"]["probe"]
    return probe


def everything(value: Any) -> Any:
    """A state as something that can be compared."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if is_dataclass(value):
        return {f.name: everything(getattr(value, f.name)) for f in fields(value)}
    return value


def test_a_phase_is_computed_once_and_read_alike(
    phase_config: dict[str, Any], before_probe: tuple[dict[str, Any], World, State], tmp_path: Path
) -> None:
    _, world, state = before_probe
    phase: Phase = build(phase_config)
    store, runs, random_before = Store(tmp_path / "artifacts"), 0, RandomState.now()

    def work(folder: Path) -> dict[str, Any]:
        nonlocal runs
        runs += 1
        return dict(phase.run(state, world, folder))

    key = fingerprint(phase_config, hash_module(type(phase).__module__))
    folder, found = store.get("probe", key, work)
    assert not found
    assert len(list(folder.iterdir())) > 1  # more than done.json
    first = phase.read(state, world, folder)
    again, found = store.get("probe", key, work)
    assert found
    assert (again, runs) == (folder, 1)
    assert everything(phase.read(state, world, folder)) == everything(first)
    assert RandomState.now() == random_before
    assert isinstance(phase.needs_checkpoint, bool)
    cost = json.loads((folder / "done.json").read_text())
    assert all(isinstance(value, int | float) for value in cost.values())


def test_a_phase_run_twice_writes_the_same(
    phase_config: dict[str, Any], before_probe: tuple[dict[str, Any], World, State], tmp_path: Path
) -> None:
    _, world, state = before_probe
    contents = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        build({**phase_config, **({"overwrite": True} if "overwrite" in phase_config else {})}).run(state, world, folder)
        contents.append({path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert contents[0].keys() == contents[1].keys()
    assert [name for name in contents[0] if contents[0][name] != contents[1][name]] == []
