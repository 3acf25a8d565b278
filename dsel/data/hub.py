"""Documents from the Hugging Face Hub, or from whatever else `datasets.load_dataset` takes, such as a local folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dsel.artifact import hash_file
from dsel.corpus import Documents
from dsel.data.pairs import count_same
from dsel.data.text import Columns, check_limits, check_options, without
from dsel.error import InputError
from dsel.pool import ROW, SRC, TGT
from dsel.sieve import Bad, OnBadRow, Sieve

ROWS_PER_BATCH = 1000


@dataclass(frozen=True)
class Hub:
    """Reads split `split` of dataset `source`, and `target_split` of `target`, by `datasets.load_dataset`.

    `max_documents` takes the first rows of each side; with `streaming` it is required, and no more is downloaded. Pin
    `source_revision` and `target_revision`: a dataset that changes on the Hub is not noticed without them. Columns and
    bad rows as in `Files`.
    """

    source: str
    target: str
    source_config: str | None = None
    target_config: str | None = None
    split: str = "train"
    target_split: str = "train"
    streaming: bool = False
    max_documents: int | None = None
    text_column: str = "text"
    domain_column: str = "domain"
    id_column: str = "id"
    src_column: str | None = None
    tgt_column: str | None = None
    source_revision: str | None = None
    target_revision: str | None = None
    on_bad_row: OnBadRow = "fail"
    min_characters: int = 1

    def __post_init__(self) -> None:
        check_options(self.on_bad_row, self.min_characters)
        check_limits(vars(self))
        for side in ("source", "target"):
            if not isinstance(getattr(self, side), str):
                raise InputError(f"{side}={getattr(self, side)!r}: data=hub needs one dataset's name; for files use data=files")
        if self.streaming and self.max_documents is None:
            raise InputError("data.streaming=true: needs an end; set data.max_documents= to the number of documents to take")

    def identity(self) -> dict[str, Any]:
        """The options, and content hashes where a side is a local folder."""
        sides = {side: Path(getattr(self, side)) for side in ("source", "target")}
        files = {side: sorted(p for p in path.rglob("*") if p.is_file()) for side, path in sides.items() if path.is_dir()}
        return {**vars(self), "files": {side: [[str(p), hash_file(p)] for p in paths] for side, paths in files.items()}}

    def read(self) -> Documents:
        """Errors: no such dataset or no way to it, unknown split or column, text that is not strings, empty rows."""
        sieves = {side: Sieve(side, self.on_bad_row) for side in ("source", "target")}
        source, names = self.read_side(sieves["source"])
        target, _ = self.read_side(sieves["target"])
        columns = self._columns()
        return Documents(
            source=source,
            target=target,
            dropped={side: dict(sieve.dropped) for side, sieve in sieves.items()},
            listed=[line for sieve in sieves.values() for line in sieve.listed],
            facts={
                **{side: {key: value for key, value in self.place(side).items() if value} for side in sieves},
                "columns": columns.stored(names, source),
                **({"same_on_both_sides": count_same(source[SRC], source[TGT])} if self.src_column else {}),
            },
        )

    def _columns(self) -> Columns:
        return Columns(self.text_column, self.id_column, self.domain_column, self.src_column, self.tgt_column)

    def place(self, side: str) -> dict[str, Any]:
        """What `load_dataset` is told of a side."""
        return {
            "path": getattr(self, side),
            "name": getattr(self, f"{side}_config"),
            "split": self.split if side == "source" else self.target_split,
            "revision": getattr(self, f"{side}_revision"),
        }

    def read_side(self, sieve: Sieve) -> tuple[pa.Table, list[str]]:
        """The side's documents, and the names of the columns in the dataset."""
        place = self.place(sieve.side)
        where = f"{place['path']} [{place['split']}]"
        columns = self._columns()
        raw = self._load(place, sieve.side)
        if raw.num_rows == 0:
            return sieve.finish(raw, where), raw.column_names
        table = columns.expose(raw, where)
        if sieve.side == "source":
            columns.require(table.column_names, where)
        table = table.append_column(ROW, pa.array(np.arange(table.num_rows, dtype=np.int64)))
        empty = columns.empty_rows(table)
        sieve.drop([Bad(where, row, "empty", f"{' or '.join(map(repr, columns.texts))} is empty", in_line=False) for row in empty.tolist()])
        return sieve.finish(sieve.drop_short(without(table, empty), self.min_characters), where), raw.column_names

    def _load(self, place: dict[str, Any], side: str) -> pa.Table:
        """The rows of a side."""
        import datasets

        with self.naming(side):
            dataset = datasets.load_dataset(**place, streaming=self.streaming)
            if isinstance(dataset, datasets.IterableDataset):
                batches = list(dataset.take(self.max_documents).with_format("arrow").iter(batch_size=ROWS_PER_BATCH))
                table = pa.concat_tables(batches, promote_options="permissive") if batches else pa.table({})
            else:
                table = dataset.with_format("arrow")[: self.max_documents]
            table.validate(full=True)  # as for invalid UTF-8
        return table.replace_schema_metadata(None)

    def naming(self, side: str) -> AbstractContextManager[None]:
        """All that can go wrong between here and the Hub becomes one line, which names the side."""
        place = self.place(side)
        config = f" data.{side}_config={place['name']}" if place["name"] else ""
        split = f"data.{'split' if side == 'source' else 'target_split'}={place['split']}"
        return naming(f"{side}={place['path']}{config} {split}", "data=files")


@contextmanager
def naming(what: str, instead: str) -> Iterator[None]:
    """All that can go wrong between here and the Hub becomes one line, which says on the way to `what`, and what reads local files."""
    import datasets
    import httpx
    from huggingface_hub.errors import HfHubHTTPError

    # The first line says most; OSError covers lost connections and missing files, ValueError configs and splits.
    known = (OSError, ValueError, HfHubHTTPError, httpx.HTTPError, datasets.exceptions.DatasetsError)
    try:
        yield
    except known as error:
        message = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{what}: {message}; correct the name, or check the network, or give local files with {instead}") from error
