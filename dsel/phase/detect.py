"""Detect: does attribution find what is known to be wrong, copied, or the source of a fact?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dsel.context import World
from dsel.error import InputError
from dsel.functional.ranking import roc_auc
from dsel.phase.attribute import metrics_of, read_scores
from dsel.phase.queries import Asking
from dsel.pool import ID, NOISE, PLANTED, TEXT, Pool
from dsel.state import State

Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Detect(Asking):
    """Measures of the scores of phase `attribution`, where the truth is known:

    - `noise_auc`: how sure a unit with planted noise has a lower mean score than one without;
    - `planted_auc`: likewise that a planted document of the target has a higher one;
    - `copy_mrr`, `copy_recall_10`: of queries that stand in the pool themselves (queries=planted), the place of the copy;
    - `provenance_mrr`, `provenance_recall_10`: of queries with, in `gold_column`, the ids of the units that state them, the place of the
      first.

    An id that is not in the pool, since its unit was left out as a repeat or is too short, is counted (`gold_left_out`).
    """

    attribution: str = "attribute"
    gold_column: str | None = None

    needs_checkpoint = False
    trains = False

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write metrics.json. Errors: nothing is known of these data."""
        pool = world.corpus.source
        queries = self.query_pool(world)
        values = read_scores(state, self.attribution, pool, queries, world)
        metrics = _known_units(values, pool) | _copies(values, pool, queries)
        if self.gold_column is not None:
            metrics |= _provenance(values, pool, queries, self.gold_column)
        if not metrics:
            raise InputError(
                f"phases.{world.name}: nothing is known of these data that could be found; plant noise (data.noise=) or documents "
                "(split.planted=), or give gold_column="
            )
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
        return {}

    def read(self, state: State, world: World, folder: Path) -> State:
        """The state with the metrics."""
        return state.with_metrics(**metrics_of(folder))


def _known_units(values: Values, pool: Pool) -> dict[str, float]:
    mean, found = values.mean(1), {}
    if NOISE in pool.table.column_names:
        noisy = pool.table[NOISE].is_valid().to_numpy()
        if noisy.any() and not noisy.all():
            found["noise_auc"] = roc_auc(-mean, noisy)
            kinds = np.array([kind or "" for kind in pool.table[NOISE].to_pylist()])
            for kind in sorted(set(kinds[noisy])):
                here = ~noisy | (kinds == kind)
                found[f"noise_auc_{kind}"] = roc_auc(-mean[here], noisy[here])
    planted = pool.table[PLANTED].to_numpy(zero_copy_only=False).astype(bool)
    if planted.any() and not planted.all():
        found["planted_auc"] = roc_auc(mean, planted)
    return found


def _copies(values: Values, pool: Pool, queries: Pool) -> dict[str, float]:
    planted = np.flatnonzero(pool.table[PLANTED].to_numpy(zero_copy_only=False).astype(bool))
    rows = {each[ID]: (row, each[TEXT]) for row, each in zip(planted.tolist(), _named(pool.take(planted)), strict=True)}
    places = []
    for query, each in enumerate(_named(queries)):
        row, text = rows.get(each[ID], (-1, None))
        if text == each[TEXT]:
            places.append(_place(values[:, query], [row]))
    return _recall(places, "copy") if places else {}


def _named(pool: Pool) -> list[dict[str, Any]]:
    """Id and text of each unit."""
    rows: list[dict[str, Any]] = pool.table.select([ID, TEXT]).to_pylist()
    return rows


def _provenance(values: Values, pool: Pool, queries: Pool, column: str) -> dict[str, float]:
    if column not in queries.table.column_names:
        raise InputError(f"phase detect: gold_column={column}: the queries have no such column ({', '.join(queries.table.column_names)})")
    rows = {name: row for row, name in enumerate(pool.table[ID].to_pylist())}
    places, left_out = [], 0
    for query, names in enumerate(queries.table[column].to_pylist()):
        asked = [str(name) for name in (names if isinstance(names, list) else [names])]
        known = [rows[name] for name in asked if name in rows]
        left_out += len(asked) - len(known)
        if known:
            places.append(_place(values[:, query], known))
    if not places:
        raise InputError(f"phase detect: gold_column={column}: none of its ids is in the pool; set data.id_column= to the pool's ids")
    return _recall(places, "provenance") | {"gold_left_out": float(left_out)}


def _place(scores: Values, units: list[int]) -> float:
    """Of the first of these units, from 1; units of the same score share the mean of their places."""
    best = max(scores[unit] for unit in units)
    return float(1 + np.count_nonzero(scores > best) + (np.count_nonzero(scores == best) - 1) / 2)


def _recall(places: list[float], name: str) -> dict[str, float]:
    found = np.array(places)
    return {f"{name}_mrr": float((1 / found).mean()), f"{name}_recall_10": float((found <= 10).mean())}
