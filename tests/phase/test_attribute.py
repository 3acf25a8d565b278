"""Attribution as a phase: its files against numpy's sorts, and autograd a token at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import torch
from laboratory import Lab
from made_up_corpus import documents, tiny_config, write_files, write_jsonl

from dsel.artifact import Store
from dsel.data.queries import Queries
from dsel.error import InputError
from dsel.functional.likelihood import document_losses
from dsel.phase.attribute import Attribute, read_scores
from dsel.pipeline import Run
from dsel.pool import TOKENS, Pool
from dsel.scorer.bm25 import Bm25
from dsel.scorer.gradient_similarity import GradientSimilarity
from dsel.scorer.random import Random
from dsel.scores import Scores
from dsel.state import State
from dsel.training.checkpoint import load_model, save_model

Floats = npt.NDArray[np.float64]
DOT = GradientSimilarity(each=True, per_token=False)
TOP, EXPLAINED, SHARD = 6, 2, 50


@pytest.fixture(scope="module")
def state(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> State:
    """The lab's, after a phase finetune that moved every weight a little."""
    folder, model = tmp_path_factory.mktemp("finetune"), lab.context().load(None)
    moves = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=moves))
    save_model(model, folder)
    return lab.state.with_checkpoint("finetune", folder)


@dataclass(frozen=True)
class Attributed:
    """What a phase was about, and what it left."""

    lab: Lab
    state: State
    phase: Attribute
    folder: Path
    cost: Mapping[str, Any]

    @property
    def pool(self) -> Pool:
        """The units that were scored, with tokens."""
        return self.lab.world.tokenized(self.lab.world.corpus.pools()[self.phase.pool])

    @property
    def queries(self) -> Pool:
        """The queries, with tokens."""
        return self.phase.query_pool(replace(self.lab.world, name="attribute"))

    @property
    def values(self) -> Floats:
        """Scores (unit, query) as they stand in scores.parquet."""
        table = pq.read_table(self.folder / "scores.parquet")
        return np.stack([table[name].to_numpy().astype(np.float64) for name in table.column_names if name.startswith("score")], 1)

    def rows(self, query: int, sign: str) -> list[dict[str, Any]]:
        """The rows of examples.parquet of a query, as they stand there."""
        return [row for row in self.read("examples") if (row["query"], row["sign"]) == (query, sign)]

    def read(self, name: str) -> list[dict[str, Any]]:
        """The rows of a file."""
        found: list[dict[str, Any]] = pq.read_table(self.folder / f"{name}.parquet").to_pylist()
        return found


def attribute(lab: Lab, state: State, folder: Path, scorer: Any, **options: Any) -> Attributed:
    """Run the phase."""
    phase = Attribute(**{"num_queries": 3, "top": TOP, "num_explained": EXPLAINED, "scorer": scorer, "tune": lab.tune, **options})
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dsel.phase.attribute.SHARD_SIZE", SHARD)  # the work is cut, as that of a large pool is
        cost = phase.run(state, replace(lab.world, name="attribute"), folder)
    return Attributed(lab, state, phase, folder, cost)


@pytest.fixture(scope="module")
def found(lab: Lab, state: State, tmp_path_factory: pytest.TempPathFactory) -> Attributed:
    """By inner products of gradients, under the finetuned model."""
    return attribute(lab, state, tmp_path_factory.mktemp("attribute"), DOT)


def windows(tokens: list[int], context: int) -> list[torch.Tensor]:
    """Of `context` predictions, each of which shares a token with the one before."""
    return [torch.tensor(tokens[start : start + context + 1]) for start in range(0, len(tokens) - 1, context)]


def losses_of(model: torch.nn.Module, window: torch.Tensor) -> torch.Tensor:
    """Of each token (time,)."""
    logits = model(input_ids=window[None, :-1]).logits[0]
    return -torch.log_softmax(logits, -1)[torch.arange(len(window) - 1), window[1:]]


def token_gradients(model: torch.nn.Module, tokens: list[int], context: int) -> Floats:
    """Of each predicted token's own loss, by all parameters (token, parameter)."""
    found = []
    for window in windows(tokens, context):
        for loss in losses_of(model, window):
            parts = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
            found.append(torch.cat([part.flatten() for part in parts]).numpy())
    return np.stack(found)


def test_scores_are_those_of_the_scorer(found: Attributed, lab: Lab) -> None:
    fitted, table = DOT.fit(found.pool, found.queries, replace(lab, state=found.state).context()), found.pool.table
    cut = np.concatenate([fitted(table.slice(start, SHARD)) for start in range(0, len(table), SHARD)])
    np.testing.assert_array_equal(found.values, cut.astype(np.float64))
    np.testing.assert_allclose(found.values, fitted(table), rtol=0, atol=1e-4 * np.abs(cut).max())  # how it is cut does not matter
    written = pq.read_table(found.folder / "scores.parquet")
    assert written["id"].to_pylist() == found.pool.ids().tolist()
    assert written.column_names == ["id", "row", "score_0", "score_1", "score_2"]
    cost = dict(found.cost)
    assert (cost.pop("scored_documents"), cost.pop("scoring_passes")) == (len(found.pool), 3.0)
    assert 0 < cost.pop("fitting_flops") < cost.pop("flops")
    assert not cost
    assert found.phase.read(found.state, lab.world, found.folder) == found.state


def test_scores_are_found_again_by_the_name_of_the_phase(found: Attributed, lab: Lab) -> None:
    world = replace(lab.world, name="retrain")
    here = replace(found.state, artifacts={**found.state.artifacts, "attribute": found.folder})
    np.testing.assert_array_equal(read_scores(here, "attribute", found.pool, found.queries, world), found.values.astype(np.float32))
    for name in ("attribute", "pretrain"):  # what has not run, and what is no attribution
        with pytest.raises(InputError, match=rf"^phases\.retrain: looks at the scores of phase {name}, which has not run; put it before"):
            read_scores(found.state, name, found.pool, found.queries, world)


def test_examples_are_the_first_and_the_last(found: Attributed) -> None:
    pool = found.pool.table.to_pylist()
    for query in range(3):
        order = np.argsort(found.values[:, query])
        for sign, want in (("helpful", order[::-1][:TOP]), ("harmful", order[:TOP])):
            rows = found.rows(query, sign)
            assert [row["rank"] for row in rows] == list(range(1, TOP + 1))
            assert [row["unit"] for row in rows] == want.tolist()
            assert [row["score"] for row in rows] == found.values[want, query].tolist()
            for row in rows:
                for name in ("id", "dsel_row", "domain", "text"):
                    assert row[name] == pool[row["unit"]][name]
            assert [row["tokens"] is not None for row in rows] == [True] * EXPLAINED + [False] * (TOP - EXPLAINED)
            assert [row["contributions"] is not None for row in rows] == [True] * EXPLAINED + [False] * (TOP - EXPLAINED)
    assert len(found.read("examples")) == 3 * 2 * TOP


def test_more_examples_than_units_are_all_units(lab: Lab, state: State, tmp_path: Path) -> None:
    whole = attribute(lab, state, tmp_path, Bm25(each=True), top=1000, pool="finetune")
    assert whole.values.shape == (len(lab.world.corpus.finetune), 3)
    for query in range(3):
        first, last = ([row["unit"] for row in whole.rows(query, sign)] for sign in ("helpful", "harmful"))
        assert first == last[::-1]
        assert sorted(first) == list(range(len(whole.pool)))
    assert all(row["tokens"] is None for row in whole.read("examples"))  # a score of words has no tokens


@pytest.mark.parametrize("per_token", [False, True])
def test_tokens_add_up_to_the_score(found: Attributed, lab: Lab, state: State, tmp_path: Path, per_token: bool) -> None:
    these = attribute(lab, state, tmp_path, replace(DOT, per_token=True), num_queries=1) if per_token else found
    explained = [row for row in these.read("examples") if row["tokens"] is not None]
    assert len(explained) == len(these.queries) * 2 * EXPLAINED
    for row in explained:
        assert sum(row["contributions"]) == pytest.approx(row["score"], rel=1e-3, abs=1e-4 * np.abs(these.values).max())
        assert "".join(row["tokens"]) == row["text"]


@pytest.mark.parametrize(("sign", "rank"), [("helpful", 1), ("harmful", 2)])
def test_what_a_token_adds_is_its_own_derivative(found: Attributed, lab: Lab, sign: str, rank: int) -> None:
    """Along the gradient of the query's mean loss."""
    assert lab.world.model is not None
    context, query = lab.world.model.context, 1
    folder = found.state.checkpoint_of("finetune")
    assert folder is not None
    model = load_model(folder).double()
    row = found.rows(query, sign)[rank - 1]
    asked = token_gradients(model, found.queries.table[TOKENS][query].as_py(), context).mean(0)
    want = token_gradients(model, found.pool.table[TOKENS][row["unit"]].as_py(), context) @ asked
    assert len(want) == len(row["tokens"])
    assert np.abs(want).max() > 0
    np.testing.assert_allclose(row["contributions"], want, rtol=0, atol=1e-3 * np.abs(want).max())


def test_groups_are_sums(found: Attributed, lab: Lab, state: State, tmp_path: Path) -> None:
    names = np.array(found.pool.table["domain"].to_pylist())
    rows = found.read("groups")
    assert [(row["query"], row["group"]) for row in rows] == [(query, name) for query in range(3) for name in sorted(set(names))]
    for row in rows:
        mine = found.values[names == row["group"], row["query"]]
        assert row["units"] == len(mine)
        assert row["score"] == pytest.approx(mine.sum(), rel=1e-6)
    for group in (None, "no such column"):
        folder = tmp_path / str(group)
        assert not (attribute(lab, state, folder, Random(), group=group).folder / "groups.parquet").exists()


def test_queries_are_told_with_their_losses(found: Attributed, lab: Lab) -> None:
    """Under every model of the run, in the order of training, and a token at a time under the newest."""
    assert lab.world.model is not None
    assert lab.world.tokenizer is not None
    rows, context = found.read("queries"), lab.world.model.context
    names = pq.read_schema(found.folder / "queries.parquet").names
    assert [name for name in names if name.startswith("loss_")] == ["loss_pretrain", "loss_finetune"]
    assert [row["id"] for row in rows] == found.queries.ids().tolist()
    for name, folder in found.state.checkpoints.items():
        losses, counts = document_losses([load_model(folder)], lab.world.objective, found.queries.table, context)
        assert [row[f"loss_{name}"] for row in rows] == pytest.approx((losses[:, 0] / counts).tolist())
    model = load_model(found.state.checkpoints["finetune"])
    for row, tokens in zip(rows, found.queries.table[TOKENS].to_pylist(), strict=True):
        parts = windows(tokens, context)
        with torch.no_grad():
            want = torch.cat([losses_of(model, window) for window in parts]).tolist()
            best = torch.cat([model(input_ids=window[None, :-1]).logits[0].argmax(-1) for window in parts]).tolist()
        assert row["losses"] == pytest.approx(want, rel=1e-4)
        assert np.mean(row["losses"]) == pytest.approx(row["loss_finetune"], rel=1e-5)
        assert row["expected"] == [lab.world.tokenizer.decode([token]) for token in best]
        assert "".join(row["tokens"]) == row["text"]


def test_tokens_of_other_alphabets_are_readable(lab: Lab, state: State, tmp_path: Path) -> None:
    """A letter of several bytes may be several tokens."""
    text = "The sailor über die Größe of Київ."
    mine = Queries(str(write_jsonl(tmp_path / "mine.jsonl", [{"text": text}])))
    (row,) = attribute(lab, state, tmp_path / "a", Random(), queries=mine).read("queries")
    assert "".join(row["tokens"]) == text


@pytest.mark.parametrize("scorer", [Random(), replace(DOT, each=False)], ids=["random", "mean"])
def test_a_score_that_does_not_look_at_the_query_is_that_of_all(lab: Lab, state: State, tmp_path: Path, scorer: Any) -> None:
    same = attribute(lab, state, tmp_path, scorer)
    assert same.values.shape == (len(same.pool), 3)
    np.testing.assert_array_equal(same.values, np.repeat(same.values[:, :1], 3, 1))
    assert len(np.unique(same.values)) > 100
    for sign in ("helpful", "harmful"):
        first, *others = ([{**row, "query": 0} for row in same.rows(query, sign)] for query in range(3))
        assert others == [first, first]


def test_one_query_has_one_column(lab: Lab, state: State, tmp_path: Path) -> None:
    one = attribute(lab, state, tmp_path, DOT, num_queries=1, num_explained=0)
    assert one.values.shape == (len(one.pool), 1)
    assert {row["query"] for row in one.read("examples")} == {0}
    np.testing.assert_array_equal(Scores.load(one.folder).values, one.values.astype(np.float32))


def test_the_key_hangs_on_the_queries_files(tmp_path: Path) -> None:
    mine = write_jsonl(tmp_path / "mine.jsonl", documents("stars", 3))
    config = tiny_config(*write_files(tmp_path), tmp_path / "out", "arm=attribute_random", experiment="influence_lds")
    config["pipeline"] = ["pretrain", "attribute"]
    config["phases"]["attribute"]["queries"] = {"_target_": "dsel.data.queries.Queries", "path": str(mine)}
    before = Run(config).keys
    assert Run(config).keys == before
    write_jsonl(mine, documents("stars", 4))
    after = Run(config).keys
    assert [name for name in before if before[name] != after[name]] == ["attribute"]


def test_models_are_there_for_a_score_that_looks_at_none(tmp_path: Path) -> None:
    """What becomes of the queries under them is told all the same."""
    config = tiny_config(*write_files(tmp_path), tmp_path / "out", "arm=attribute_bm25", experiment="influence_lds")
    config["pipeline"] = ["pretrain", "finetune", "attribute"]
    assert list(Run(config).phases) == ["pretrain", "finetune", "attribute"]


def test_a_score_that_looks_at_no_model_needs_none(tmp_path: Path) -> None:
    config = tiny_config(
        *write_files(tmp_path, 10, 40), tmp_path / "out", "arm=attribute_bm25", "split.planted=0", experiment="influence_lds"
    )
    config["pipeline"] = ["attribute"]
    folder = Run(config).fold(Store(tmp_path / "artifacts")).artifacts["attribute"]
    assert pq.read_table(folder / "scores.parquet").num_rows == 30
    assert not [name for name in pq.read_schema(folder / "queries.parquet").names if name.startswith("loss_")]


@pytest.mark.parametrize(("options", "said"), [({"pool": "target"}, "pool=target: must be source or finetune"), ({"top": 0}, "top=0")])
def test_wrong_options_are_named(lab: Lab, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"^phase attribute: {said}"):
        Attribute(scorer=Random(), tune=lab.tune, **options)


def test_a_score_that_is_not_finite_is_named(lab: Lab, state: State, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Broken:
        reads = ("id",)

        def fit(self, *_: Any) -> Any:
            return lambda batch: np.where(np.array(batch["id"].to_pylist()) == "kitchen-3", np.nan, 1).astype(np.float32)[:, None]

    with pytest.raises(InputError, match=r"^scorer Broken: 1 of \d+ scores are not finite; first: row \d+, id 'kitchen-3'"):
        attribute(lab, state, tmp_path, Broken())
