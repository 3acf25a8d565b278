"""Select: from scores (or whatever the selector looks at) to units within the budget."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from dsel.context import World
from dsel.functional.ranking import order_by, precision_recall, roc_auc
from dsel.phase.score import make_context
from dsel.phase.train import Train
from dsel.pool import DOMAIN, NOISE, PLANTED, TASK, TEXT, TOKENS, Budget, Pool
from dsel.protocol import Selector
from dsel.selection import Selection
from dsel.state import State

SAMPLES, SAMPLE_CHARACTERS, BINS = 12, 600, 40


@dataclass(frozen=True)
class Select:
    """Chooses units of the source, and says what kind they are: domains, samples, histogram, and where target documents were
    planted, precision, recall and AUC."""

    selector: Selector
    budget: Budget
    tune: Train

    needs_checkpoint = False  # selecting by scores needs no model
    trains = False

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write selection.parquet (every unit: id, row, score, rank, selected), composition.json and metrics.json."""
        with_tokens = world.tokenizer is not None and (self.budget.tokens is not None or TOKENS in _known(state))
        tokenized = world.tokenized if with_tokens else _same
        source = tokenized(world.corpus.source)
        target = tokenized(world.corpus.target)
        selection = self.selector.select(source, target, self.budget, make_context(self.tune, state, world, tokenized))
        scores = None if state.scores is None else state.scores.values.mean(axis=1)
        selection.save(folder, source, scores)
        metrics = _found(source, selection, scores) | _noise(source, selection) | {"selected_documents": float(len(selection.units))}
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
        composition = _compose(source, selection, scores)
        (folder / "composition.json").write_text(json.dumps(composition, indent=1), encoding="utf-8")
        return {"selected_documents": len(selection.units)}

    def read(self, state: State, world: World, folder: Path) -> State:
        """The state with the selection and its metrics."""
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        return replace(state, selection=Selection.load(folder)).with_metrics(**metrics)


def _same(pool: Pool) -> Pool:
    return pool


def _known(state: State) -> list[str]:
    return [TOKENS] if state.checkpoints else []


def _found(source: Pool, selection: Selection, scores: npt.NDArray[np.float32] | None) -> dict[str, float]:
    """How well the planted target documents were found; nothing where none were planted."""
    planted = source.table[PLANTED].to_numpy(zero_copy_only=False).astype(bool)
    if not planted.any():
        return {}
    precision, recall = precision_recall(selection.units, planted)
    found = {"selector_precision": precision, "selector_recall": recall}
    return found if scores is None else found | {"selector_auc": roc_auc(scores, planted)}


def _noise(source: Pool, selection: Selection) -> dict[str, float]:
    """Which share of the selected units is planted noise, and where units belong to tasks, how many tasks they are of."""
    found = {}
    if NOISE in source.table.column_names and len(selection.units):
        noisy = source.table[NOISE].is_valid().to_numpy()
        found["selected_noise"] = float(noisy[selection.units].mean())
    if TASK in source.table.column_names:
        found["selected_tasks"] = float(len(np.unique(source.tasks()[1][selection.units])))
    return found


def _compose(source: Pool, selection: Selection, scores: npt.NDArray[np.float32] | None) -> dict[str, Any]:
    selected = np.zeros(len(source), dtype=bool)
    selected[selection.units] = True
    composition: dict[str, Any] = {}
    if DOMAIN in source.table.column_names:
        frame = pl.DataFrame({"domain": pl.from_arrow(source.table[DOMAIN].cast(pa.string())), "selected": selected})
        counts = frame.group_by("domain").agg(pl.len().alias("pool"), pl.col("selected").sum()).sort(["pool", "domain"], descending=True)
        composition["domains"] = counts.to_dicts()
    if TOKENS in source.table.column_names:
        lengths = source.token_counts()
        means = {"pool_mean_tokens": float(lengths.mean()), "selected_mean_tokens": float(lengths[selected].mean())}
        composition["length"] = means | {"selected_tokens": int(lengths[selection.units].sum())}
    if scores is not None:
        order = order_by(scores, source.ids())
        composition["highest"] = _samples(source, order[:SAMPLES], scores, selected, 0)
        composition["lowest"] = _samples(source, order[-SAMPLES:][::-1], scores, selected, len(order) - SAMPLES)
        composition["histogram"] = _histogram(source, scores, selected)
    return composition


def _samples(
    source: Pool,
    units: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
    selected: npt.NDArray[np.bool_],
    first: int,
) -> list[dict[str, Any]]:
    rows = source.table.take(pa.array(units)).to_pylist()
    return [
        {
            "rank": first + place,
            "id": row["id"],
            "domain": row.get(DOMAIN),
            "score": float(scores[unit]),
            "selected": bool(selected[unit]),
            "planted": bool(row[PLANTED]),
            "text": row[TEXT][:SAMPLE_CHARACTERS],
        }
        for place, (unit, row) in enumerate(zip(units.tolist(), rows, strict=True))
    ]


def _histogram(source: Pool, scores: npt.NDArray[np.float32], selected: npt.NDArray[np.bool_]) -> dict[str, list[float]]:
    low, high = np.quantile(scores, [0.001, 0.999])
    edges = np.linspace(low, max(high, low + 1e-6), BINS + 1)
    kept = np.clip(scores, edges[0], edges[-1])
    planted = source.table[PLANTED].to_numpy(zero_copy_only=False).astype(bool)
    groups = {"pool": kept, "planted": kept[planted], "selected": kept[selected]}
    return {"edges": edges.tolist()} | {name: np.histogram(part, edges)[0].tolist() for name, part in groups.items()}
