"""Examples of the user's own, about which is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsel.corpus import Documents
from dsel.data.files import Files
from dsel.data.format.file import find_files, hash_sides
from dsel.error import InputError
from dsel.sieve import OnBadRow, Sieve


@dataclass(frozen=True)
class Queries:
    """The rows of `path`: files as `data=files` reads them, with texts, or with `src_column` and `tgt_column` pairs."""

    path: str | Sequence[str]
    text_column: str = "text"
    id_column: str = "id"
    src_column: str | None = None
    tgt_column: str | None = None
    on_bad_row: OnBadRow = "fail"

    def identity(self) -> dict[str, Any]:
        """Content hashes of the files, and the options."""
        options = {key: value for key, value in vars(self).items() if key != "path"}
        return {**options, **hash_sides({"query": self._paths()}, self._files()._columns())}

    def read(self) -> Documents:
        """As the target. Errors: InputError for every kind of bad input."""
        try:
            table, _ = self._files().read_side(self._paths(), Sieve("target", self.on_bad_row))
        except InputError as error:
            raise InputError(str(error).replace("data.", "queries.").replace("target=", "query=")) from error
        return Documents(source=table.slice(0, 0), target=table, needs_source=False)

    def _paths(self) -> list[Path]:
        return find_files(self.path, "query", self.src_column)

    def _files(self) -> Files:
        return Files(
            self.path, self.path, text_column=self.text_column, id_column=self.id_column, src_column=self.src_column,
            tgt_column=self.tgt_column,
        )  # fmt: skip
