"""Classification and regression tasks of the user's own, from files or from the Hugging Face Hub, to be trained on one by one."""

from __future__ import annotations

import glob
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from dsel.corpus import Documents
from dsel.data.files import FILE
from dsel.data.format.file import PAIR_PARSERS, PARSERS, find_files, hash_sides, split_name
from dsel.data.task_files import FileTasks, require
from dsel.data.task_hub import HubTasks, hash_folders, split_config
from dsel.data.tasks import AUTO, make_documents
from dsel.data.text import Columns, check_limits, check_options
from dsel.error import InputError
from dsel.pool import KIND, ROW, SECOND, SRC, TASK, TGT
from dsel.sieve import OnBadRow, Sieve

log = logging.getLogger("dsel")
PAIR = "text_pair"
SIDES = ("source", "target")


@dataclass(frozen=True)
class LabelledTasks:
    """Texts `text_column` with labels `label_column`: the tasks of `source`, which may be none, and the target tasks of `target`.

    Each side is a path, a glob, a folder, or a list of those, read as by `TaskFiles`, or the name of a dataset or several, read as by
    `TaskHub`: files where the path exists, has a known ending, or is a glob. A file on both sides is the target's. Of the columns, text,
    label and, where a file has one, `pair_column` are kept, the second text of a pair. Which tasks are regressions, `regression` says as
    for `TaskFiles`. `split` and `target_split` are what stands in `split_column` of files (of the target, None: all), or splits of datasets
    (None: as the source's). Options otherwise as in those two.
    """

    source: str | Sequence[str] | None
    target: str | Sequence[str]
    text_column: str = "text"
    pair_column: str | None = PAIR
    label_column: str = "label"
    task_column: str = TASK
    split_column: str | None = None
    split: str = "train"
    target_split: str | None = None
    revision: str | None = None
    max_per_task: int | None = 10_000
    max_target: int | None = 2_000
    regression: str | Sequence[str] = AUTO
    on_bad_row: OnBadRow = "fail"
    seed: int = 0

    def __post_init__(self) -> None:
        check_options(self.on_bad_row, 0)
        check_limits(vars(self))
        for key in ("label_column", "pair_column"):
            if getattr(self, key) == self.text_column:
                raise InputError(f"data.{key}={self.text_column}: is data.text_column as well; name another column")
        for side in SIDES:
            given = getattr(self, side)
            items = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
            if not (given is None and side == "source") and not (items and all(item and isinstance(item, str) for item in items)):
                or_none = ", or null for none" * (side == "source")
                raise InputError(f"{side}={given!r}: give files, folders or globs, or names of datasets on the Hub{or_none}")

    def identity(self) -> dict[str, Any]:
        """The options, and content hashes of files and local folders by side. Errors: as `read` where files are not found."""
        options = {key: value for key, value in vars(self).items() if key not in SIDES}
        files, names = self._files(), {side: self._items(side) for side in SIDES}
        return {
            **options,
            **hash_sides(files, self._columns()),
            **{f"{side}_names": names[side] for side in SIDES if side not in files},
            "folders": hash_folders([name for side in SIDES if side not in files for name in names[side]]),
        }

    def read(self) -> Documents:
        """Errors: InputError for every kind of bad input, as `TaskFiles` and `TaskHub`, and an option that no side given needs."""
        files = self._files()
        self._refuse_unused(files)
        both = sorted({*self._found("source")} - {*files["source"]}) if len(files) == len(SIDES) else []
        for path in both:
            log.info("source: %s is left out: it is the target's", path)
        sieves = {side: Sieve(side, self.on_bad_row) for side in SIDES}
        columns: dict[str, None] = {}
        tasks = {side: self._read_side(sieve, files.get(side), columns) for side, sieve in sieves.items()}
        if files:
            wanted = {"pair_column": (self.pair_column, PAIR), "task_column": (self.task_column, TASK)}
            require(wanted, columns, " ".join(f"{side}={getattr(self, side)}" for side in files))
        places = {side: [self._hub(side).place(name) for name in self._items(side)] for side in SIDES if side not in files}
        return make_documents(
            tasks["source"],
            tasks["target"],
            dropped={side: dict(sieve.dropped) for side, sieve in sieves.items()},
            listed=[*(f"{path} is_target" for path in both), *(line for sieve in sieves.values() for line in sieve.listed)],
            facts={**places, "files": {side: [str(path) for path in paths] for side, paths in files.items()}},
            regression=self.regression,
            apart=True,
        )

    def _items(self, side: str) -> list[str]:
        given = getattr(self, side)
        return [given] if isinstance(given, str) else list(given or ())

    def _found(self, side: str) -> list[Path]:
        return find_files(self._items(side), side, self.text_column) if _are_files(self._items(side), side) else []

    def _files(self) -> dict[str, list[Path]]:
        """Files by side, of the sides that are files; those of the target are not the source's. Errors: a side is both, or has none."""
        found = {side: paths for side in SIDES if (paths := self._found(side))}
        if len(found) < len(SIDES):
            return found
        asked = {path.resolve() for path in found["target"]}
        rest = [path for path in found["source"] if path.resolve() not in asked]
        if not rest:
            raise InputError(f"source={self.source}: all {len(found['source'])} files are the target's; give others, or source=null")
        return {**found, "source": rest}

    def _refuse_unused(self, files: dict[str, list[Path]]) -> None:
        """Errors: an option for files where there is none, or for datasets."""
        given = {side for side in SIDES if self._items(side)}
        options = {"revision": None} if given == set(files) else {} if files else {"task_column": TASK, "split_column": None}
        for key, default in options.items():
            if (value := getattr(self, key)) != default:
                what = "datasets on the Hub" if files else "files"
                raise InputError(f"data.{key}={value}: is for {what}, and there are none; take it out, or give such")
        if self.target_split is not None and self.split_column is None and "target" in files:
            raise InputError(f"data.target_split={self.target_split}: in which column? set data.split_column=")

    def _columns(self) -> Columns:
        return Columns(domain=self.task_column, src=self.text_column, tgt=self.label_column, sides=("text", "label"))

    def _read_side(self, sieve: Sieve, paths: list[Path] | None, columns: dict[str, None]) -> dict[str, pa.Table]:
        """The side's tasks, of files or else datasets, with the columns that are kept; `columns` gets the names of those in the files."""
        if paths is None:
            tasks = self._hub(sieve.side).read(self._items(sieve.side), sieve)
        else:
            is_source = sieve.side == "source"
            reader = FileTasks(
                self._columns(),
                self.pair_column,
                self.split_column,
                self.split if is_source else self.target_split,
                self.max_per_task if is_source else self.max_target,
                self.seed,
            )
            tasks, names = reader.read(paths, sieve)
            columns |= dict.fromkeys(names)
        kept = (SRC, TGT, SECOND, KIND, ROW, FILE)
        return {name: table.select([key for key in kept if key in table.column_names]) for name, table in tasks.items()}

    def _hub(self, side: str) -> HubTasks:
        is_source = side == "source"
        return HubTasks(
            self._columns(),
            self.pair_column,
            self.split if is_source else self.target_split or self.split,
            self.revision,
            self.max_per_task if is_source else self.max_target,
            self.seed,
            needs_pair=self.pair_column != PAIR,
            files="the path of a file or folder that exists",
        )


def _are_files(items: Sequence[str], side: str) -> bool:
    """Whether these are files, not datasets. Errors: some are, some are not."""
    files = [item for item in items if _is_file(item)]
    if files and len(files) < len(items):
        other = next(item for item in items if item not in files)
        raise InputError(f"{side}: {files[0]} is of files, and {other} would be a dataset on the Hub; correct it, or give one kind")
    return bool(files)


def _is_file(item: str) -> bool:
    path = Path(item).expanduser()
    known = glob.has_magic(item) or split_name(path)[0] in (*PARSERS, *PAIR_PARSERS)
    return known or path.exists() or (path.is_absolute() and not Path(split_config(item)[0]).is_dir())
