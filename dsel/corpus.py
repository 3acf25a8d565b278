"""From the documents that were read to the pools of a run, without leaks between them and with every loss counted."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.error import InputError
from dsel.functional.hashing import hash_texts, hex_names
from dsel.functional.repeats import find_first, hash_rows, warn_of_same_tasks
from dsel.pool import DOMAIN, ID, PLANTED, ROW, TASK, TEXT, Pool, fingerprint_table, read_table, write_table

log = logging.getLogger("dsel")
Rows = npt.NDArray[np.int64]
FEWEST = 8  # target documents from which parts are cut


@dataclass(frozen=True)
class Documents:
    """What a data module read: tables with `text` and `dsel_row`, where known `id` and `domain`, and the user's other columns.

    `dropped` counts, by side (source, target) and reason, the rows that were read but are not in the tables; `listed` says
    which (the first hundred of a side). `facts` are versions, files and the like, for the record. `in_tasks`: the source's rows belong to
    tasks (column `task`), of which none may get lost. `apart`: tasks are trained on one by one: a question (column `src`) is asked once in
    each, and not where the target asks it. `needs_source`: none is an error.
    """

    source: pa.Table
    target: pa.Table
    dropped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    listed: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    in_tasks: bool = False
    apart: bool = False
    needs_source: bool = True


@dataclass(frozen=True)
class Split:
    """Cuts target documents into parts that share nothing, unless `overlap` says so.

    `planted` documents are hidden in the pool, marked, so that a selector's precision and recall are known. Then come
    validation, test and fine-tuning shares of the rest; what is left is reserve. The selector's sample has the size of
    the share `target`: a part `overlap` of it is taken from the fine-tuning documents, the others from the reserve.
    `holdout` is the share of the source that is never trained on, to measure forgetting. `seed` is the split's own, so
    that the seeds of a sweep are tested on the same documents.
    """

    target: float = 0.25
    finetune: float = 0.25
    validation: float = 0.15
    test: float = 0.2
    overlap: float = 1.0
    planted: int = 0
    holdout: float = 0.0
    exclude_target: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("target", "finetune", "validation", "test", "overlap", "holdout"):
            if not 0 <= getattr(self, key) <= 1:
                raise InputError(f"split.{key}={getattr(self, key)}: must be between 0 and 1")
        if self.holdout == 1:
            raise InputError(f"split.holdout={self.holdout}: leaves no document in the pool; set it below 1")
        if self.planted < 0:
            raise InputError(f"split.planted={self.planted}: must be 0 or more")
        used = self.validation + self.test + self.finetune + self.target * (1 - self.overlap)
        if used > 1 + 1e-9:
            raise InputError(
                f"split: validation + test + finetune + target * (1 - overlap) = {used:g} of the target documents; "
                "lower one of them to come to 1 or less"
            )
        if self.target <= 0:
            raise InputError(f"split.target={self.target}: must be above 0, a selector needs a target sample")
        if self.overlap * self.target > self.finetune + 1e-9:
            raise InputError(
                f"split.overlap={self.overlap}: asks for a share {self.overlap * self.target:g} of the fine-tuning documents, "
                f"which are {self.finetune:g}; lower split.overlap or raise split.finetune"
            )

    def parts(self, num_target: int) -> dict[str, Rows]:
        """Row numbers of the target documents for each part. A part with a share above 0 has one document at least."""
        order = np.random.default_rng([self.seed, 1]).permutation(num_target)
        if self.planted >= num_target:
            raise InputError(f"split.planted={self.planted}: there are only {num_target} target documents; set it lower")
        planted, rest = order[: self.planted], order[self.planted :]
        if len(rest) < FEWEST:  # too few to hold any out: every part is all of them, and what is measured says little
            log.warning("target: %d documents are too few to split; every part of the target is all of them", len(rest))
            asked = {key: rest if getattr(self, key) else rest[:0] for key in ("validation", "test", "finetune", "target")}
            return {"planted": planted, **asked}
        sizes = {key: self._size(key, len(rest)) for key in ("validation", "test", "finetune", "target")}
        a, b = sizes["validation"], sizes["validation"] + sizes["test"]
        c = b + sizes["finetune"]
        finetune, reserve = rest[b:c], rest[c:]
        shared = min(round(self.overlap * sizes["target"]), len(finetune))
        sample = np.concatenate([finetune[:shared], reserve[: sizes["target"] - shared]])
        if len(sample) == 0:
            raise InputError(f"split.target={self.target}: no document left for the selector of {num_target} target documents")
        return {"planted": planted, "validation": rest[:a], "test": rest[a:b], "finetune": finetune, "target": sample}

    def _size(self, key: str, count: int) -> int:
        share = float(getattr(self, key))
        return max(1, int(share * count)) if share else 0


@dataclass(frozen=True)
class Corpus:
    """The pools of a run. Empty parts are empty pools. `record` counts what was read, dropped by reason, and kept."""

    source: Pool
    holdout: Pool
    target: Pool
    finetune: Pool
    validation: Pool
    test: Pool
    record: Mapping[str, Any]
    excluded: npt.NDArray[np.uint64]  # names (`hash_texts`) of texts that may not be selected: the target's, unless asked for

    @property
    def fingerprint(self) -> str:
        """Changes when any document of any part does."""
        return "-".join(pool.fingerprint[:8] for pool in self.pools().values())

    def pools(self) -> dict[str, Pool]:
        """The parts by name."""
        return {name: getattr(self, name) for name in PARTS}


EXCLUDED = "excluded.npy"
PARTS = ("source", "holdout", "target", "finetune", "validation", "test")


def prepare(documents: Documents, split: Split, folder: Path) -> dict[str, Any]:
    """Deduplicate, take leaks out, split, plant, and write one Arrow file a part; returns the record of counts."""
    dropped = {side: dict(documents.dropped.get(side, {})) for side in ("source", "target")}
    sides = (("source", documents.source), ("target", documents.target))
    read = {side: table.num_rows + sum(dropped[side].values()) for side, table in sides}
    (source, source_keys), (target, target_keys) = (_distinct(table, dropped[side], documents.apart) for side, table in sides)
    for side, table in (("source", source), ("target", target)):
        if table.num_rows == 0 and (documents.needs_source or side == "target"):
            raise InputError(f"{side}: no documents left of {read[side]} read (dropped: {dropped[side] or 'none'})")
    if split.exclude_target:
        known = np.isin(source_keys, target_keys)
        if known.any():
            dropped["source"]["also_in_target"] = int(known.sum())
            source = source.filter(pa.array(~known))
        if source.num_rows == 0 and documents.needs_source:
            raise InputError("source: every document also stands in the target; give another source, or split.exclude_target=false")
    rows = split.parts(target.num_rows)
    if documents.in_tasks:
        _refuse_lost_tasks(documents.source, source)
    if documents.apart:
        warn_of_same_tasks(source)
    held = _held_out(source, split, documents.in_tasks)
    tables = {
        "source": _plant(source.filter(pa.array(~held)) if held.any() else source, target.take(pa.array(rows["planted"])), split.seed),
        "holdout": source.filter(pa.array(held)),
        **{part: target.take(pa.array(np.sort(rows[part]))) for part in ("target", "finetune", "validation", "test")},
    }
    found = rows["planted"] if split.exclude_target else slice(None)  # what is planted is to be found
    np.save(folder / EXCLUDED, np.sort(np.delete(hash_texts(target[TEXT]) if documents.apart else target_keys, found)))
    counts = {}
    for part in PARTS:
        table = tables[part].combine_chunks()
        write_table(table, folder / f"{part}.arrow")
        counts[part] = {"documents": table.num_rows, "fingerprint": fingerprint_table(table)}
    record = {
        "read": read,
        "dropped": dropped,
        "listed": list(documents.listed)[:200],
        "parts": counts,
        "planted": len(rows["planted"]),
        "facts": dict(documents.facts),
    }
    (folder / "corpus.json").write_text(json.dumps(record, indent=1, default=str), encoding="utf-8")
    return record


def _held_out(source: pa.Table, split: Split, in_tasks: bool) -> npt.NDArray[np.bool_]:
    """Which rows are never trained on (row,): the share `split.holdout` of all, or of each task."""
    held = np.zeros(source.num_rows, dtype=bool)
    order = np.random.default_rng([split.seed, 2]).permutation(source.num_rows)
    if not in_tasks:
        held[order[: int(split.holdout * source.num_rows)]] = True
        return held
    names = source[TASK].to_numpy(zero_copy_only=False)[order]
    for name in sorted(set(names)):
        rows = order[names == name]
        held[rows[: int(split.holdout * len(rows))]] = True
    return held


def _refuse_lost_tasks(read: pa.Table, kept: pa.Table) -> None:
    """Errors: a task of which no row is left."""
    lost = sorted(set(read[TASK].unique().to_pylist()) - set(kept[TASK].unique().to_pylist()))
    if lost:
        raise InputError(
            f"task {lost[0]}: none of its rows is left ({len(lost)} tasks in all): each also stands in another task or in the target; "
            "take the task out"
        )


def load(folder: Path) -> Corpus:
    """Map into memory what `prepare` wrote. What is held out of the pool is there to measure on: planted noise has no part in it."""
    record = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
    pools = {part: Pool(part, read_table(folder / f"{part}.arrow"), record["parts"][part]["fingerprint"]) for part in PARTS}
    pools["holdout"] = pools["holdout"].without_noise()
    return Corpus(**pools, record=record, excluded=np.load(folder / EXCLUDED))


def _distinct(table: pa.Table, dropped: dict[str, int], apart: bool) -> tuple[pa.Table, npt.NDArray[np.uint64]]:
    """The table without exact repeats (the first stays), and the hashes by which what is left is found on the other side. It has `id`
    (text's hash where the user gives none) and `dsel_row`, both of one type."""
    keys = hash_rows(table, apart)
    table = table if ID in table.column_names else table.append_column(ID, hex_names(hash_texts(table[TEXT]) if apart else keys))
    for name, kind in ((ID, pa.string()), (ROW, pa.int64())):
        table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
    first = find_first(keys, hash_texts(table[TASK]) if apart else None)
    if len(first) < len(keys):
        dropped["duplicate"] = len(keys) - len(first)
        table = table.take(pa.array(first))
    return table, keys[first]


def _plant(source: pa.Table, planted: pa.Table, seed: int) -> pa.Table:
    """The source with the planted rows mixed in at random places and the mark column `dsel_planted`."""
    mark = np.r_[np.zeros(source.num_rows, dtype=bool), np.ones(planted.num_rows, dtype=bool)]
    if planted.num_rows:
        keep = [name for name in source.column_names if name in planted.column_names]
        missing = [name for name in source.column_names if name not in planted.column_names]
        planted = planted.select(keep)
        for name in missing:
            planted = planted.append_column(name, pa.nulls(planted.num_rows, source.schema.field(name).type))
        source = pa.concat_tables([source, planted.select(source.column_names).cast(source.schema)])
    source = source.append_column(PLANTED, pa.array(mark))
    if planted.num_rows:
        source = source.take(pa.array(np.random.default_rng([seed, 3]).permutation(source.num_rows)))
    return source


__all__ = ["DOMAIN", "PARTS", "Corpus", "Documents", "Split", "load", "prepare"]
