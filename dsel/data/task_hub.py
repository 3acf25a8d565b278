"""Tasks from the Hugging Face Hub, or from whatever else `datasets.load_dataset` takes, such as local folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dsel.artifact import hash_file
from dsel.corpus import Documents
from dsel.data.hub import naming
from dsel.data.tasks import AUTO, add_second, expose, is_measured, make_documents, put, set_kind
from dsel.data.text import Columns, check_limits, check_options, without
from dsel.error import InputError
from dsel.pool import ROW, SECOND, SRC, TEXT, TGT
from dsel.sieve import Bad, OnBadRow, Sieve


@dataclass(frozen=True)
class HubTasks:
    """Reads the tasks of one side by `datasets.load_dataset`; its fields are what `TaskHub` says of its own. `needs_pair`: every dataset
    must have `pair_column`; `files` is what reads files instead."""

    columns: Columns
    pair_column: str | None = None
    split: str = "train"
    revision: str | None = None
    limit: int | None = None
    seed: int = 0
    needs_pair: bool = True
    files: str = "data=task_files"

    def read(self, names: Sequence[str], sieve: Sieve) -> dict[str, pa.Table]:
        """Each dataset's questions and answers by the task's name, with `dsel_row` and `dsel_kind`. Errors: as `TaskHub`."""
        tasks: dict[str, pa.Table] = {}
        homes: dict[str, str] = {}
        for given in names:
            name = _name_task(given)
            if name in homes:
                raise InputError(f"task {name}: is the name of {homes[name]} and of {given}; take one out of {sieve.side}=")
            homes[name] = given
            tasks[name] = self._read_task(given, sieve)
        return tasks

    def place(self, given: str) -> dict[str, Any]:
        """What `load_dataset` is told of a dataset."""
        path, config = split_config(given)
        place = {"path": path, "name": config, "split": self.split, "revision": self.revision}
        return {key: value for key, value in place.items() if value is not None}

    def _read_task(self, given: str, sieve: Sieve) -> pa.Table:
        where, columns = f"{given} [{self.split}]", self.columns
        raw = self._load(given, sieve.side)
        if self.needs_pair and self.pair_column is not None and self.pair_column not in raw.column_names:
            known = ", ".join(raw.column_names)
            raise InputError(f"{where}: no column {self.pair_column!r} (columns: {known}); set data.pair_column= to one of them, or null")
        table = expose(raw, columns, where).append_column(ROW, pa.array(np.arange(raw.num_rows, dtype=np.int64)))
        empty = columns.empty_rows(table)
        detail = f"{' or '.join(map(repr, columns.texts))} is empty"
        sieve.drop([Bad(where, row, "empty", detail, in_line=False) for row in empty.tolist()])
        table = without(table, empty)
        if self.pair_column is not None:
            table = add_second(table, columns, self.pair_column, where)
        kept = [name for name in (SRC, TGT, SECOND, TEXT, ROW) if name in table.column_names]
        table = sieve.thin(table.select(kept), self.limit, self.seed).drop_columns([TEXT])
        return set_kind(table, is_measured(raw.schema.field(columns.texts[-1]).type))

    def _load(self, given: str, side: str) -> pa.Table:
        """The dataset's rows, labels by their names."""
        import datasets

        split = f"data.{'split' if side == 'source' else 'target_split'}={self.split}"
        revision = f" data.revision={self.revision}" if self.revision else ""
        with naming(f"{side}={given} {split}{revision}", self.files):
            dataset = datasets.load_dataset(**self.place(given))
            table = dataset.with_format("arrow")[:]
            table.validate(full=True)  # as for invalid UTF-8
        table, answers = table.replace_schema_metadata(None), self.columns.texts[-1]
        feature = dataset.features.get(answers)
        if not isinstance(feature, datasets.ClassLabel) or not feature.names:
            return table
        labels = table[answers]
        known = pc.if_else(pc.less(labels, 0), None, labels)  # -1 stands for no label
        return put(table, answers, pa.chunked_array([pa.array(feature.names, pa.string())]).take(known))


def hash_folders(names: Sequence[str]) -> dict[str, list[list[str]]]:
    """Name and content hash of each file of those datasets that are local folders."""
    folders = {given: Path(split_config(given)[0]) for given in names}
    files = {given: sorted(p for p in path.rglob("*") if p.is_file()) for given, path in folders.items() if path.is_dir()}
    return {given: [[str(p), hash_file(p)] for p in paths] for given, paths in files.items()}


@dataclass(frozen=True)
class TaskHub:
    """Reads split `split` of each dataset of `source`, an auxiliary task each, and `target_split` of `target`, by `datasets.load_dataset`.

    A dataset is named by its path, or as "path:config"; the task by the path's last part, "glue_rte" for "nyu-mll/glue:rte". Of the
    columns, questions and answers are kept; labels are answered by their names where the dataset knows them. Pin `revision` where all
    datasets are of one repository: one that changes on the Hub is not noticed without. Other options as in `TaskFiles`.
    """

    source: str | Sequence[str]
    target: str
    src_column: str = "src"
    tgt_column: str = "tgt"
    pair_column: str | None = None
    split: str = "train"
    target_split: str = "train"
    revision: str | None = None
    max_per_task: int | None = None
    max_target: int | None = None
    regression: str | Sequence[str] = AUTO
    on_bad_row: OnBadRow = "fail"
    seed: int = 0

    def __post_init__(self) -> None:
        check_options(self.on_bad_row, 0)
        check_limits(vars(self))
        if not isinstance(self.target, str):
            raise InputError(f"target={self.target!r}: data=task_hub needs one dataset's name; for files use data=task_files")
        given = [self.source] if isinstance(self.source, str) else self.source
        if not isinstance(given, Sequence) or not given or not all(isinstance(each, str) for each in given):
            raise InputError(f"source={self.source!r}: data=task_hub needs a list of datasets' names; for files use data=task_files")

    def identity(self) -> dict[str, Any]:
        """The options, and content hashes of datasets that are local folders."""
        options = {key: value for key, value in vars(self).items() if key not in ("source", "target")}
        sides = {"source": self._names("source"), "target": self.target}
        return {**options, **sides, "files": hash_folders([*self._names("source"), self.target])}

    def read(self) -> Documents:
        """Errors: no such dataset or no way to it, unknown split or column, text that is not strings, empty rows, two of one name."""
        sieves = {side: Sieve(side, self.on_bad_row) for side in ("source", "target")}
        sides = {side: self._reader(side).read(self._names(side), sieve) for side, sieve in sieves.items()}
        return make_documents(
            sides["source"],
            sides["target"],
            dropped={side: dict(sieve.dropped) for side, sieve in sieves.items()},
            listed=[line for sieve in sieves.values() for line in sieve.listed],
            facts={side: [self._reader(side).place(given) for given in self._names(side)] for side in sieves},
            regression=self.regression,
        )

    def _names(self, side: str) -> list[str]:
        given = getattr(self, side)
        return [given] if isinstance(given, str) else list(given)

    def _reader(self, side: str) -> HubTasks:
        return HubTasks(
            Columns(src=self.src_column, tgt=self.tgt_column),
            self.pair_column,
            self.split if side == "source" else self.target_split,
            self.revision,
            self.max_per_task if side == "source" else self.max_target,
            self.seed,
        )


def split_config(given: str) -> tuple[str, str | None]:
    """Path and configuration of "path:config"."""
    path, colon, config = given.rpartition(":")
    return (path, config) if colon and not Path(given).exists() else (given, None)


def _name_task(given: str) -> str:
    path, config = split_config(given)
    return "_".join([Path(path).name, *([config] if config else [])])
