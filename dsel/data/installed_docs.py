"""The documentation that every Python environment carries: real text, real domains, no network."""

from __future__ import annotations

import platform
import sysconfig
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from itertools import chain
from multiprocessing import get_context, get_start_method
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dsel.corpus import Documents
from dsel.data.docstrings import Docstring, harvest
from dsel.data.text import check_limits
from dsel.error import InputError
from dsel.functional.cores import num_cores
from dsel.pool import DOMAIN, ID, ROW, TEXT
from dsel.sieve import Sieve

STDLIB = "stdlib"
LEARNING = (
    "torch",
    "transformers",
    "sklearn",
    "datasets",
    "hydra",
    "pytorch_lightning",
    "torchmetrics",
    "huggingface_hub",
)
NUMERIC = ("scipy", "sympy", "networkx", "numpy", "pandas", "pyarrow", "polars", "matplotlib", "statsmodels")
USUAL = (*LEARNING, *NUMERIC, STDLIB)
DISTRIBUTIONS = {"sklearn": "scikit-learn", "hydra": "hydra-core"}  # the others bear their package's name
SKIPPED = {
    "tests",
    "test",
    "_test",
    "site-packages",
    "dist-packages",
    "idlelib",
    "turtledemo",
    "_bundled",
    "__pycache__",
}
FILES_PER_TASK = 64


@dataclass(frozen=True)
class InstalledDocs:
    """Docstrings of the installed packages, one `domain` a package, `id` the qualified name.

    The documents of package `target` are the target, those of `packages` (None: those of the usual stack that are
    installed; 'stdlib' is the standard library) the source. Texts under `min_characters` characters are left out, and
    longer ones cut at `max_characters`. Of more than `max_documents` (source) or `max_target` (target) a random part is
    taken, drawn by a hash of `seed` and id, so that a document's luck does not hang on which others are there.
    """

    target: str = "networkx"
    packages: Sequence[str] | None = None
    max_documents: int | None = None
    max_target: int | None = None
    min_characters: int = 200
    max_characters: int | None = None
    num_workers: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_limits(vars(self))

    def identity(self) -> dict[str, Any]:
        """Versions of the packages, and the options that bear on the result. Errors: a package not installed."""
        options = {k: v for k, v in vars(self).items() if k not in ("packages", "num_workers")}
        return {**options, "versions": self._versions()}

    def read(self) -> Documents:
        """Errors: a package that is not installed, no document in the source or the target."""
        versions = self._versions()
        files = {name: list_files(name) for name in sorted(versions)}
        docs = self._harvest(list(chain.from_iterable(files.values())))
        domains = list(chain.from_iterable([name] * len(files[name]) for name in files))
        table = _tabulate(docs, domains)
        is_target = pc.equal(table[DOMAIN], self.target)
        sides = {"source": table.filter(pc.invert(is_target)), "target": table.filter(is_target)}
        sieves = {side: Sieve(side) for side in sides}
        limits = {"source": self.max_documents, "target": self.max_target}
        kept = {side: self._choose(t, limits[side], sieves[side]) for side, t in sides.items()}
        for side, rest in kept.items():
            if rest.num_rows == 0:
                key = "data.target" if side == "target" else "data.packages"
                raise InputError(
                    f"{side}: no docstring of {self.min_characters} characters in {', '.join(versions)}; "
                    f"name others in {key}= or lower data.min_characters="
                )
        return Documents(**kept, dropped={side: dict(sieve.dropped) for side, sieve in sieves.items()}, facts={"versions": versions})

    def _versions(self) -> dict[str, str]:
        """Installed version by package, the target's too."""
        given = USUAL if self.packages is None else list(self.packages)
        wanted = sorted({*given, self.target})
        found = {name: installed for name in wanted if (installed := find_version(name)) is not None}
        for name in wanted:
            if name not in found and (name == self.target or self.packages is not None):
                key = "target" if name == self.target else "packages"
                raise InputError(f"data.{key}={name}: not installed here; there are {', '.join(available())}")
        return found

    def _harvest(self, files: list[tuple[str, str]]) -> list[list[Docstring]]:
        """Docstrings by file, in the order of `files`."""
        workers = self.num_workers or num_cores()
        tasks = [files[i : i + FILES_PER_TASK] for i in range(0, len(files), FILES_PER_TASK)]
        if min(workers, len(tasks)) < 2 or get_start_method(allow_none=True) == "loky":  # a worker of joblib's: it cannot spawn others
            return harvest(files)
        # Spawned, since the parent may hold torch's threads, which a fork would not survive.
        with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=get_context("spawn")) as pool:
            try:
                return list(chain.from_iterable(pool.map(harvest, tasks)))
            except BrokenProcessPool as error:  # e.g. a script without `if __name__ == "__main__"`, or out of memory
                raise InputError(f"data.num_workers={workers}: a worker process died; set data.num_workers=1") from error

    def _choose(self, table: pa.Table, limit: int | None, sieve: Sieve) -> pa.Table:
        chosen = sieve.thin(sieve.drop_short(table, self.min_characters), limit, self.seed)
        if self.max_characters is None:
            return chosen
        cut = pc.utf8_slice_codeunits(chosen[TEXT], 0, self.max_characters)
        return chosen.set_column(chosen.column_names.index(TEXT), TEXT, cut)


def _tabulate(docs: Iterable[Iterable[Docstring]], domains: Iterable[str]) -> pa.Table:
    """One row a docstring; a name that comes again (setters, overloads) has `#2`, `#3` ... after it."""
    seen: Counter[str] = Counter()
    ids, texts, kinds = [], [], []
    for file, domain in zip(docs, domains, strict=True):
        for name, _, text in file:
            seen[name] += 1
            ids.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
            texts.append(text)
            kinds.append(domain)
    columns = {TEXT: texts, ID: ids, DOMAIN: kinds}
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    return table.append_column(ROW, pa.array(np.arange(len(ids), dtype=np.int64)))


def list_files(package: str) -> list[tuple[str, str]]:
    """(path, module name) of the package's source files, without its tests, sorted."""
    roots, prefix = ([Path(sysconfig.get_path("stdlib"))], "") if package == STDLIB else (_roots(package), f"{package}.")
    found = []
    for root in roots:
        for path in [root] if root.is_file() else root.rglob("*.py"):
            relative = Path("__init__.py") if root.is_file() else path.relative_to(root)
            if SKIPPED.isdisjoint(relative.parts) and not relative.stem.startswith(("test_", "conftest")):
                module = ".".join(relative.with_suffix("").parts).removesuffix("__init__").rstrip(".")
                found.append((str(path), f"{prefix}{module}".rstrip(".")))
    return sorted(found)


def _roots(package: str) -> list[Path]:
    spec = find_spec(package)
    assert spec is not None
    if spec.submodule_search_locations:
        return [Path(place) for place in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.origin else []


@cache
def find_version(package: str) -> str | None:
    """The installed version of an import package, None where it is not installed."""
    if package == STDLIB:
        return platform.python_version()
    if not package.isidentifier() or find_spec(package) is None:
        return None
    try:
        return version(DISTRIBUTIONS.get(package, package))
    except PackageNotFoundError:
        owners = packages_distributions().get(package)  # slow: it looks at every distribution
        return version(owners[0]) if owners else None


def available() -> list[str]:
    """Import packages that may be named, the standard library last."""
    return [*sorted(name for name in packages_distributions() if name.isidentifier() and name[0] != "_"), STDLIB]
