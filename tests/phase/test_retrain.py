"""Training without examples: what is masked, what stays, and what is measured, against scipy and a run's own models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.stats
import torch
from laboratory import Lab
from made_up_corpus import make_pool, permuted, tiny_config, write_files

from dsel.artifact import Store
from dsel.build import build
from dsel.context import World
from dsel.error import InputError
from dsel.functional.blocks import IGNORE
from dsel.functional.likelihood import document_losses
from dsel.objective.instruction import Instruction
from dsel.phase.attribute import EXAMPLES
from dsel.phase.retrain import Retrain, agreement, retrained_losses, without
from dsel.phase.train import Train
from dsel.pipeline import Run
from dsel.pool import SOURCE_TOKENS, TOKENS, Pool
from dsel.scores import Scores
from dsel.state import State
from dsel.training.checkpoint import load_model

Floats = npt.NDArray[np.float64]
Masks = npt.NDArray[np.bool_]
SMALL = ["arm=attribute_random", "steps.total=6", "steps.finetune=3", "phases.pretrain.snapshots=2", "split.planted=10"]


@dataclass(frozen=True)
class Trained:
    """A run that has pretrained and fine-tuned a little."""

    config: dict[str, Any]
    world: World
    state: State

    @property
    def source(self) -> Pool:
        """With tokens."""
        return self.world.tokenized(self.world.corpus.source)

    @property
    def queries(self) -> Pool:
        """With tokens."""
        return self.world.tokenized(self.world.corpus.test)

    def train(self, name: str, **changes: Any) -> Train:
        """A phase as the run has it, but for changes."""
        phase: Train = build(self.config["phases"][name] | changes)
        return phase

    def retrain(self, **changes: Any) -> Retrain:
        """The phase, small."""
        given = {"share": None, "units": 4, "num_sets": 3, "num_queries": 5, **changes}
        phase: Retrain = build({**self.config["phases"]["retrain"], **given})
        return phase

    def scored(self, folder: Path, values: npt.NDArray[np.float32]) -> State:
        """The state after an attribution that found these values."""
        folder.mkdir()
        Scores(values, self.source.fingerprint).save(folder, self.source)
        pq.write_table(pa.table({"query": [0]}), folder / EXAMPLES)
        return replace(self.state, artifacts={**self.state.artifacts, "attribute": folder})

    def run(self, phase: Retrain, folder: Path, values: npt.NDArray[np.float32]) -> dict[str, float]:
        """The metrics of the phase, after these scores."""
        state, world = self.scored(folder / "scores", values), replace(self.world, name="retrain")
        cost = phase.run(state, world, folder)
        assert cost["trained_sets"] == pq.read_table(folder / "retrained.parquet")["set"].to_numpy().max() + 1 or phase.num_repeats > 1
        metrics: dict[str, float] = json.loads((folder / "metrics.json").read_text())
        assert phase.read(state, world, folder).metrics == pytest.approx(metrics, nan_ok=True)
        return metrics


@pytest.fixture(scope="module")
def trained(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trained once for all tests here."""
    folder = tmp_path_factory.mktemp("trained")
    config = tiny_config(*write_files(folder, 30, 60), folder / "out", *SMALL, experiment="influence_lds")
    config["pipeline"] = ["pretrain", "finetune"]
    run, store = Run(config), Store(folder / "artifacts")
    return Trained(config, run.world(store), run.fold(store))


def random_mask(size: int, share: float = 0.3, seed: int = 0) -> Masks:
    """Some of them."""
    return np.random.default_rng(seed).random(size) < share


def numbered(pool: Pool) -> Pool:
    """The pool, in which each token is the number of its unit."""
    rows = [[unit] * len(tokens) for unit, tokens in enumerate(pool.table[TOKENS].to_pylist())]
    at = pool.table.column_names.index(TOKENS)
    return Pool(pool.name, pool.table.set_column(at, TOKENS, pa.array(rows, pa.list_(pa.int32()))), "numbered")


def test_what_is_left_out_is_not_predicted_and_all_else_stays_in_place(lab: Lab) -> None:
    """Of packed blocks: which unit a token belongs to is told by a pool in which tokens are the numbers of units."""
    assert lab.world.model is not None
    left_out, context = random_mask(len(lab.source)), lab.world.model.context
    pools = (lab.source, without(lab.source, left_out), numbered(lab.source))
    before, after, owners = (lab.world.objective.batches({"source": (pool, 1.0)}, context, 8, 3) for pool in pools)
    masked = 0
    for step in range(60):  # more than an epoch
        gone = torch.from_numpy(left_out)[owners[step]]
        assert (after[step][gone] == IGNORE).all()
        assert torch.equal(after[step][~gone], before[step][~gone])
        assert (before[step] != IGNORE).all()
        assert torch.equal(lab.world.objective.predicted(after[step]), ~gone[:, 1:])
        masked += int(gone.sum())
    assert 0.1 < masked / (60 * 8 * (context + 1)) < 0.5


def test_the_pool_is_another_only_in_its_tokens(lab: Lab) -> None:
    left_out = random_mask(len(lab.source))
    found = without(lab.source, left_out)
    assert found.table.drop_columns([TOKENS]).equals(lab.source.table.drop_columns([TOKENS]))
    assert found.fingerprint != lab.source.fingerprint
    rows = zip(found.table[TOKENS].to_pylist(), lab.source.table[TOKENS].to_pylist(), left_out, strict=True)
    assert all(now == ([IGNORE] * len(was) if gone else was) for now, was, gone in rows)
    nothing = without(lab.source, np.zeros(len(lab.source), bool))
    assert nothing.table[TOKENS].to_pylist() == lab.source.table[TOKENS].to_pylist()


def test_of_pairs_answers_are_left_out() -> None:
    """Batches by length keep their pairs, and questions stay."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "text": "",
            SOURCE_TOKENS: [0, *rng.integers(1, 50, rng.integers(1, 9))],
            TOKENS: [0, unit + 50, *rng.integers(1, 50, rng.integers(1, 9))],
        }
        for unit in range(60)
    ]
    pool, left_out = make_pool(rows), random_mask(60)
    before, after = (Instruction().batches({"source": (some, 1.0)}, 12, 4, 1) for some in (pool, without(pool, left_out)))
    seen: set[int] = set()
    for step in range(30):
        units = before[step].target[:, 1] - 50  # the first token of an answer is its number
        gone = torch.from_numpy(left_out)[units]
        assert torch.equal(after[step].source, before[step].source)
        assert torch.equal(after[step].target[~gone], before[step].target[~gone])
        assert (after[step].target[gone] == IGNORE).all()
        assert not Instruction().predicted(after[step])[gone].any()
        seen |= set(units.tolist())
    assert len(seen) == 60


def test_without_anything_left_out_it_is_the_run_itself(trained: Trained) -> None:
    """To the last bit."""
    assert trained.world.model is not None
    nothing, world = np.zeros(len(trained.source), bool), replace(trained.world, name="retrain")
    found = retrained_losses(trained.train("pretrain"), trained.train("finetune"), trained.source, nothing, trained.queries, world)
    model = load_model(trained.state.checkpoints["finetune"])
    losses, counts = document_losses([model], trained.world.objective, trained.queries.table, trained.world.model.context)
    np.testing.assert_array_equal(found, losses[:, 0] / counts)
    other = replace(world, seed=world.seed + 1)
    again = retrained_losses(trained.train("pretrain"), trained.train("finetune"), trained.source, nothing, trained.queries, other)
    assert not np.allclose(again, found, rtol=1e-4)


def test_what_is_left_out_has_no_part(trained: Trained, tmp_path: Path) -> None:
    """Its texts may as well be others: the same weights."""
    some = random_mask(len(trained.source), 0.1)
    world = replace(trained.world, name="retrain", store=Store(tmp_path))
    scrambled = [[7] * len(row) if gone else row for row, gone in zip(trained.source.table[TOKENS].to_pylist(), some, strict=True)]
    at = trained.source.table.column_names.index(TOKENS)
    column = pa.array(scrambled, trained.source.table.schema.field(TOKENS).type)
    other = Pool("source", trained.source.table.set_column(at, TOKENS, column), "other")
    both = [
        retrained_losses(trained.train("pretrain"), trained.train("finetune"), pool, some, trained.queries, world)
        for pool in (trained.source, other)
    ]
    np.testing.assert_array_equal(both[0], both[1])
    whole = retrained_losses(trained.train("pretrain"), trained.train("finetune"), other, ~some & some, trained.queries, world)
    assert not np.allclose(whole, both[0], rtol=1e-5)


def test_pretrainings_are_shared_by_all_ways_of_fine_tuning(trained: Trained, tmp_path: Path) -> None:
    store, masks = Store(tmp_path), [random_mask(len(trained.source), 0.1, seed) for seed in range(2)]
    world, pretrain = replace(trained.world, name="retrain", store=store), trained.train("pretrain")
    ways = [trained.train("finetune"), trained.train("finetune", parameters="ln_f")]
    found = np.array([[retrained_losses(pretrain, way, trained.source, mask, trained.queries, world) for mask in masks] for way in ways])
    made = {name: sorted(path.name for path in tmp_path.glob(f"{name}-*")) for name in ("repretrained", "retrained")}
    assert [len(names) for names in made.values()] == [2, 4]
    assert len(np.unique(found.round(9), axis=1)) == 2
    assert not list(tmp_path.glob("*/optimizer.safetensors"))  # there are hundreds: what nobody asks for again is not kept
    assert not list(tmp_path.glob("retrained-*/model"))
    again = [[retrained_losses(pretrain, way, trained.source, mask, trained.queries, world) for mask in masks] for way in ways]
    np.testing.assert_array_equal(found, again)


def test_agreement_is_that_of_scipy() -> None:
    rng = np.random.default_rng(3)
    true = rng.normal(size=(15, 6))
    predicted = np.round(0.4 * true + rng.normal(size=(15, 6)), 1)  # with ties
    found = agreement(predicted, true)
    columns = list(zip(predicted.T, true.T, strict=True))
    assert found == pytest.approx(
        {
            "pearson": scipy.stats.pearsonr(predicted.mean(1), true.mean(1)).statistic,
            "spearman": scipy.stats.spearmanr(predicted.mean(1), true.mean(1)).statistic,
            "pearson_each": np.mean([scipy.stats.pearsonr(*pair).statistic for pair in columns]),
            "lds": np.mean([scipy.stats.spearmanr(*pair).statistic for pair in columns]),
        }
    )
    predicted[:, 2] = 1.0  # of which nothing can be said
    columns.pop(2)
    part = agreement(predicted, true)
    assert part["queries_without_lds"] == 1
    assert part["lds"] == pytest.approx(np.mean([scipy.stats.spearmanr(*pair).statistic for pair in columns]))
    assert part["pearson_each"] == pytest.approx(np.mean([scipy.stats.pearsonr(*pair).statistic for pair in columns]))
    silent = agreement(np.ones_like(true), true)
    assert all(np.isnan(silent[name]) for name in ("pearson", "spearman", "pearson_each", "lds"))


def sets(trained: Trained, source: Pool, seed: int = 0, **changes: Any) -> list[list[str]]:
    """The ids of what is left out, sorted."""
    masks = trained.retrain(**changes)._sets(source, replace(trained.world, seed=seed))
    return [sorted(source.ids()[mask]) for mask in masks]


@pytest.mark.parametrize("size", [{"units": 4}, {"units": 1}, {"units": None, "share": 0.1}, {"units": None, "group": "domain"}], ids=str)
def test_sets_hang_on_ids_and_the_seed(trained: Trained, size: Mapping[str, Any]) -> None:
    mixed, _ = permuted(trained.source)
    given = {"num_sets": 8, **size}
    found = sets(trained, trained.source, **given)
    assert sets(trained, mixed, **given) == found
    if "group" not in size:
        assert sets(trained, trained.source, seed=1, **given) != found
        wanted = size["units"] or round(0.1 * len(trained.source))
        assert [len(some) for some in found] == [wanted] * 8
        assert len({tuple(some) for some in found}) == 8


def test_groups_are_left_out_one_by_one(trained: Trained) -> None:
    """As many sets as values, whatever `num_sets`."""
    domains = {row["id"]: row["domain"] for row in trained.source.table.to_pylist()}
    found = sets(trained, trained.source, units=None, group="domain")
    assert found == [sorted(name for name in domains if domains[name] == domain) for domain in sorted(set(domains.values()))]
    with pytest.raises(InputError, match=r"^phases\.score\.group=planet: the pool has no such column"):
        trained.retrain(units=None, group="planet")._sets(trained.source, replace(trained.world, name="score"))


def test_single_units_are_all_other_ones(trained: Trained) -> None:
    found = sets(trained, trained.source, units=1, num_sets=len(trained.source))
    assert sorted(name for some in found for name in some) == sorted(trained.source.ids())


def test_predictions_and_truths_are_told_beside_each_other(trained: Trained, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(len(trained.source), 5)).astype(np.float32)
    phase = trained.retrain()
    metrics = trained.run(phase, tmp_path, values)
    table = pq.read_table(tmp_path / "retrained.parquet")
    masks, queries = phase._sets(trained.source, trained.world), phase.query_pool(replace(trained.world, name="retrain"))
    assert table["set"].to_pylist() == np.repeat(np.arange(3), 5).tolist()
    assert table["query"].to_pylist() == list(range(5)) * 3
    assert set(table["left_out"].to_pylist()) == {4}
    predicted, true = (table[name].to_numpy().reshape(3, 5) for name in ("predicted", "true"))
    np.testing.assert_allclose(predicted, [values[mask].sum(0, dtype=np.float64) for mask in masks])
    ways = trained.train("pretrain"), trained.train("finetune")
    world = replace(trained.world, name="retrain")
    losses = [retrained_losses(*ways, trained.source, mask, queries, world) for mask in (masks[0] & False, *masks)]
    np.testing.assert_allclose(true, np.array(losses)[1:] - losses[0])
    assert np.abs(true).max() > 0
    assert metrics["spearman"] == pytest.approx(scipy.stats.spearmanr(predicted.mean(1), true.mean(1)).statistic)
    assert metrics["lds"] == pytest.approx(np.mean([scipy.stats.spearmanr(*p).statistic for p in zip(predicted.T, true.T, strict=True)]))
    assert "repeat_lds" not in metrics


def test_repeats_have_other_seeds_and_are_averaged(trained: Trained, tmp_path: Path) -> None:
    values = np.ones((len(trained.source), 2), np.float32) * np.arange(len(trained.source), dtype=np.float32)[:, None]
    (tmp_path / "one").mkdir()
    one, both = trained.retrain(num_queries=2), trained.retrain(num_queries=2, num_repeats=2)
    trained.run(one, tmp_path / "one", values)
    metrics = trained.run(both, tmp_path, values)
    first, mean = (pq.read_table(path / "retrained.parquet")["true"].to_numpy().reshape(3, 2) for path in (tmp_path / "one", tmp_path))
    second = 2 * mean - first
    assert np.abs(second - first).max() > 0
    assert metrics["repeat_lds"] == pytest.approx(
        np.mean([scipy.stats.spearmanr(*p).statistic for p in zip(first.T, second.T, strict=True)])
    )
    assert metrics["repeat_spearman"] == pytest.approx(scipy.stats.spearmanr(first.mean(1), second.mean(1)).statistic)


def test_scores_must_be_of_as_many_queries(trained: Trained, tmp_path: Path) -> None:
    values = np.zeros((len(trained.source), 4), np.float32)
    with pytest.raises(InputError, match=r"^phases\.retrain: 5 queries, but phase attribute had 4; give both the same"):
        trained.run(trained.retrain(), tmp_path, values)
    world = replace(trained.world, name="retrain")
    with pytest.raises(InputError, match=r"^phases\.retrain: looks at the scores of phase attribute, which has not run; put it before"):
        trained.retrain().run(trained.state, world, tmp_path)


def test_batches_of_which_nothing_is_left_teach_nothing(trained: Trained, tmp_path: Path) -> None:
    """With half of the data left out, some batches have no token that is predicted."""
    left_out = np.ones(len(trained.source), bool)
    left_out[:8] = False
    world = replace(trained.world, name="retrain", store=Store(tmp_path))
    found = retrained_losses(trained.train("pretrain"), trained.train("finetune"), trained.source, left_out, trained.queries, world)
    assert np.isfinite(found).all()


def test_adapters_are_trained_again(trained: Trained, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    world = replace(trained.world, name="retrain", store=Store(tmp_path))
    finetune, nothing = trained.train("finetune", lora={"r": 2, "target_modules": ["c_attn"]}), np.zeros(len(trained.source), bool)
    found = retrained_losses(trained.train("pretrain"), finetune, trained.source, nothing, trained.queries, world)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"units": None}, "units=None, share=None, group=None: give exactly one"),
        ({"share": 0.1}, "units=4, share=0.1, group=None: give exactly one"),
        ({"group": "domain"}, "units=4, share=None, group=domain: give exactly one"),
        ({"units": 0}, "units=0"),
        ({"units": -3}, "units=-3"),
        ({"units": None, "share": 0.0}, "share=0.0: must be above 0 and below 1"),
        ({"units": None, "share": 1.0}, "share=1.0: must be above 0 and below 1"),
        ({"num_sets": 2}, "num_sets=2: a correlation needs at least 3"),
        ({"num_repeats": 0}, "num_repeats=0"),
    ],
)
def test_wrong_options_are_named(trained: Trained, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"^phase retrain: {said}"):
        replace(trained.retrain(), **changes)


def test_more_units_than_there_are_is_one_clear_error(trained: Trained) -> None:
    with pytest.raises(InputError, match="units=1000"):
        trained.retrain(units=1000)._sets(trained.source, replace(trained.world, name="retrain"))
