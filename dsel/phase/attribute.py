"""Attribute: which examples of a training set made the predictions of some queries, and which worked against them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dsel.attribution import GradientScore
from dsel.context import World
from dsel.error import InputError
from dsel.phase.queries import Asking
from dsel.phase.score import SHARD_SIZE, columns_read, cost_of, fit_scorer, make_context, map_pool
from dsel.phase.train import Train
from dsel.pool import DOMAIN, ID, ROW, SRC, TEXT, Pool
from dsel.protocol import FittedScore, Scorer
from dsel.scores import Scores
from dsel.state import State

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EXAMPLES, QUERIES, GROUPS = "examples.parquet", "queries.parquet", "groups.parquet"
Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Attribute(Asking):
    """Scores every unit of `pool` (source or finetune) for every query with `scorer`, which must give a column for each: `each: true`.

    `queries`: a part of the corpus, planted, or data of one's own; at most `num_queries` of them. Kept for each are the `top` units that
    help most and the `top` that harm most, the first `num_explained` of both with what each of their tokens adds. `group`: a column over
    whose values scores are summed as well.
    """

    scorer: Scorer = field(kw_only=True)
    tune: Train = field(kw_only=True)
    pool: str = "source"
    top: int = 20
    num_explained: int = 5
    group: str | None = DOMAIN

    trains = False
    needs_checkpoint = True  # queries are shown with every model's loss

    def __post_init__(self) -> None:
        if self.pool not in ("source", "finetune"):
            raise InputError(f"phase attribute: pool={self.pool}: must be source or finetune")
        if self.top < 1:
            raise InputError(f"phase attribute: top={self.top}: must be at least 1")

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write scores.parquet (unit, a column a query), examples.parquet, queries.parquet and groups.parquet."""
        queries = self.query_pool(world)
        pool = world.tokenized(world.corpus.pools()[self.pool])
        fitted, flops = fit_scorer(self.scorer, pool, queries, make_context(self.tune, state, world, world.tokenized))
        values = map_pool(world.executor, fitted, pool, columns_read(self.scorer, pool, world), world.name, SHARD_SIZE)
        if values.shape[1] == 1 < len(queries):
            values = np.repeat(values, len(queries), 1)  # a score that does not look at the query
        provenance = {"scorer": type(self.scorer).__name__, "options": repr(self.scorer), "pool": self.pool}
        Scores(values, pool.fingerprint, provenance).check(pool).save(folder, pool)
        pq.write_table(self._examples(values, pool, queries, fitted, world), folder / EXAMPLES)
        pq.write_table(describe(queries, state, world), folder / QUERIES)
        if self.group is not None and self.group in pool.table.column_names:
            pq.write_table(_groups(values, pool, self.group), folder / GROUPS)
        return cost_of(self.scorer, fitted, flops, pool, state)

    def read(self, state: State, world: World, folder: Path) -> State:
        """The state as it is: what was found stands in the folder."""
        return state

    def _examples(self, values: Values, pool: Pool, queries: Pool, fitted: FittedScore, world: World) -> pa.Table:
        """The first and the last of each query: `query`, `sign`, `rank`, `score`, what the unit is, and for some its `tokens` with what
        each adds."""
        count = min(self.top, len(pool))
        rows: list[dict[str, Any]] = []
        for query in range(len(queries)):
            order = np.argsort(-values[:, query], kind="stable")
            for sign, some in (("helpful", order[:count]), ("harmful", order[::-1][:count])):
                explained = min(self.num_explained, count) if isinstance(fitted, GradientScore) else 0
                parts = token_parts(fitted, pool, some[:explained], query, world) if explained else []
                for rank, unit in enumerate(some.tolist()):
                    tokens, adds = parts[rank] if rank < len(parts) else (None, None)
                    rows.append({"query": query, "sign": sign, "rank": rank + 1, "unit": unit, "score": float(values[unit, query]),
                                 "tokens": tokens, "contributions": adds})  # fmt: skip
        found = pa.Table.from_pylist(rows, schema=_SCHEMA)
        named = [name for name in (ID, ROW, DOMAIN, TEXT, SRC) if name in pool.table.column_names]
        of_units = pool.table.select(named).take(found["unit"])
        for name in named:
            found = found.append_column(name, of_units[name])
        return found


_SCHEMA = pa.schema(
    {
        "query": pa.int32(), "sign": pa.string(), "rank": pa.int32(), "unit": pa.int64(), "score": pa.float64(),
        "tokens": pa.list_(pa.string()), "contributions": pa.list_(pa.float32()),
    }
)  # fmt: skip


def token_parts(
    fitted: FittedScore, pool: Pool, units: npt.NDArray[np.int64], query: int, world: World
) -> list[tuple[list[str], list[float]]]:
    """Of each unit its predicted tokens as text, and what each adds to the unit's score for the query."""
    assert isinstance(fitted, GradientScore)
    assert world.tokenizer is not None
    parts = fitted.token_scores(pool.table.take(pa.array(units)), min(query, fitted.num_columns - 1))  # one for all, or one each
    return [(pieces(world.tokenizer, tokens.tolist()), adds.tolist()) for tokens, adds in parts]


def pieces(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> list[str]:
    """The text of each token; a letter that several tokens spell stands with the last of them."""
    found, before = [], ""
    for number in range(len(tokens)):
        text = tokenizer.decode(tokens[: number + 1], clean_up_tokenization_spaces=False)
        whole = text.startswith(before) and not text.endswith("\N{REPLACEMENT CHARACTER}")
        found.append(text[len(before) :] if whole else "")
        before = text if whole else before
    return found


def describe(queries: Pool, state: State, world: World) -> pa.Table:
    """Each query with its mean loss under every model of the run, and its tokens with their losses under the newest and what that model
    expected in their places."""
    from dsel.functional.expected_tokens import expected_tokens
    from dsel.functional.likelihood import document_losses
    from dsel.training.checkpoint import load_model

    assert world.model is not None
    assert world.tokenizer is not None
    named = [name for name in (ID, ROW, DOMAIN, TEXT, SRC) if name in queries.table.column_names]
    table = queries.table.select(named)
    model = None
    for name, folder in state.checkpoints.items():
        model = load_model(folder)
        losses, counts = document_losses([model], world.objective, queries.table, world.model.context)
        table = table.append_column(f"loss_{name}", pa.array(losses[:, 0] / np.maximum(counts, 1)))
    if model is None:
        return table
    rows = expected_tokens(model, world.objective, queries.table, world.model.context)
    columns: dict[str, list[Any]] = {"tokens": [], "losses": [], "expected": []}
    for tokens, losses_of, expected in rows:
        columns["tokens"].append(pieces(world.tokenizer, tokens.tolist()))
        columns["losses"].append(losses_of.tolist())
        columns["expected"].append([world.tokenizer.decode([token]) for token in expected.tolist()])
    for key, value in columns.items():
        table = table.append_column(key, pa.array(value))
    return table


def _groups(values: Values, pool: Pool, column: str) -> pa.Table:
    """The sum of scores over each value of a column: `query`, `group`, `units`, `score`."""
    names, numbers = np.unique(np.array([str(name) for name in pool.table[column].to_pylist()]), return_inverse=True)
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, numbers, values)
    size = np.bincount(numbers)
    rows = [
        {"query": query, "group": str(name), "units": int(size[at]), "score": float(sums[at, query])}
        for query in range(values.shape[1])
        for at, name in enumerate(names)
    ]
    return pa.Table.from_pylist(rows)


def read_scores(state: State, name: str, pool: Pool, queries: Pool, world: World) -> Values:
    """Those (unit, query) that the phase `name` of the run gave the pool. Errors: it has not run, or was asked about other queries."""
    folder = state.artifacts.get(name)
    if folder is None or not (folder / EXAMPLES).is_file():
        raise InputError(f"phases.{world.name}: looks at the scores of phase {name}, which has not run; put it before in pipeline")
    values = Scores.load(folder).check(pool).values
    if values.shape[1] != len(queries):
        raise InputError(f"phases.{world.name}: {len(queries)} queries, but phase {name} had {values.shape[1]}; give both the same")
    return values


def metrics_of(folder: Path) -> dict[str, float]:
    """Read metrics.json."""
    found: dict[str, float] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return found
