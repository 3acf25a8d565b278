"""What scorers of tasks and transfers share: tuned models, their embeddings, maps; each made once, as an artifact."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dsel.artifact import Store, fingerprint, hash_module
from dsel.base_encoder import BaseEncoder
from dsel.context import Seen, TaskContext
from dsel.error import InputError
from dsel.labelled import LabelledTask
from dsel.phase.map_cache import MapCache
from dsel.phase.map_fitting import MapFitting
from dsel.phase.tuning import Tuning

if TYPE_CHECKING:
    from dsel.functional.pairs import Ragged
    from dsel.functional.space_map import SpaceMap

log = logging.getLogger("dsel")

Vectors = npt.NDArray[np.float32]
TOKENS_PER_BATCH = 4096
FISHER_ROWS, FISHER_SEED = 500, 0  # the base encoder is that of all seeds, and so are the rows
SEEN, FISHER = "seen.safetensors", "fisher.safetensors"
CODE = (
    "dsel.phase.workbench",
    "dsel.phase.tuning",
    "dsel.functional.embedding",
    "dsel.functional.task_model",
    "dsel.objective.labelling",
    "dsel.base_encoder",
    "dsel.training",
)


@dataclass(frozen=True)
class Workbench:
    """`sources` by name. All that is random hangs on `seed` and on the rows, not on who asks."""

    base: BaseEncoder
    tuning: Tuning
    fitting: MapFitting
    sources: Mapping[str, LabelledTask]
    store: Store
    seed: int
    maps: MapCache | None = None  # those that stand in a folder already
    cut: dict[str, int] = field(default_factory=dict)  # by task's name: rows longer than the context
    _tokens: dict[str, Ragged] = field(default_factory=dict, repr=False)

    def tokens(self, task: LabelledTask) -> Ragged:
        """Of the task's rows."""
        key = task.fingerprint
        if key not in self._tokens:
            self._tokens[key], cut = self.base.encode(task, self.base.tokenizer())
            if cut:
                self.cut[task.name] = cut
        return self._tokens[key]

    def embed(self, task: LabelledTask) -> Vectors:
        """The base encoder's embeddings (row, dim)."""
        return self._look("base", task, partial(self.base.model, 1, 0), self._key()).embeddings

    def tuned(self, source: LabelledTask) -> Path:
        """The folder of the model that was tuned on the source."""
        return self._tune(source, None)

    def seen(self, source: LabelledTask, task: LabelledTask) -> Seen:
        """The task's rows under the model that was tuned on the source."""
        folder = self.tuned(source)
        return self._look(source.name, task, lambda: _load(folder), folder.name)

    def space_map(self, source: LabelledTask) -> tuple[SpaceMap, Path | None]:
        """The source's map, and its folder where it was made here."""
        from dsel.functional.map_file import load, save

        if self.maps is not None and (given := self.maps.get(source.name, source, self.base.dim())) is not None:
            return given, None
        if not len(source):
            raise InputError(
                f"task {source.name}: has neither a map nor rows to fit one to; give its rows in sources=, or its map in maps="
            )

        def build(folder: Path) -> Mapping[str, Any]:
            base, tuned = self.embed(source), self.seen(source, source).embeddings
            started = time.monotonic()
            found = self.fitting.fit(base, tuned, self._seed("map"))
            save(folder, found, self._card(source))
            return {"seconds": time.monotonic() - started, "held_out_error": found.held_out_error}

        key = self._key(source.fingerprint, repr(self.tuning), repr(self.fitting), self.seed, hash_module("dsel.functional.space_map"))
        folder, _ = self.store.get("map", key, build)
        space_map = load(folder)[0]
        if self.maps is not None:
            self.maps.put(source.name, space_map, self._card(source))
        return space_map, folder

    def _card(self, source: LabelledTask) -> dict[str, Any]:
        return {"base_model_name": self.base.name, "task_id": source.name, "num_rows": len(source), "rows": source.fingerprint}

    def fisher(self, task: LabelledTask) -> Vectors:
        """The diagonal Fisher information of the base encoder on some of the task's rows, under a head fitted to its embeddings."""
        from safetensors.numpy import load_file, save_file

        def build(folder: Path) -> Mapping[str, Any]:
            started, saved = time.monotonic(), self.store.saved
            save_file({"fisher": self._make_fisher(task)}, folder / FISHER)
            return {"seconds": time.monotonic() - started + self.store.saved - saved}

        code = [hash_module(name) for name in ("dsel.functional.fisher", "dsel.functional.linear_probe")]
        folder, _ = self.store.get("fisher", self._key(task.fingerprint, code), build)
        return load_file(folder / FISHER)["fisher"]

    def transfer(self, source: LabelledTask | None, train: LabelledTask, test: LabelledTask, repeat: int = 0) -> float:
        """The accuracy, or the correlation, on `test` of a model that was tuned on the source, or on none, and then on `train`."""
        from dsel.functional.linear_probe import performance

        folder = self._tune(train, source, repeat)
        seen = self._look("transfer", test, lambda: _load(folder), folder.name)
        return performance(seen.outputs, test.labels, regression=test.is_regression)

    def context(self, target: LabelledTask, rows: npt.NDArray[np.int64] | None = None) -> TaskContext:
        """What a scorer may look at for the target, or for these of its rows."""

        def some(values: Vectors) -> Vectors:
            return values if rows is None else values[rows]

        def tuned(name: str) -> Seen:
            found = self.seen(self.sources[name], target)
            return Seen(some(found.embeddings), some(found.outputs))

        def tokens(name: str | None) -> npt.NDArray[np.int64]:
            found = self.tokens(target if name is None else self.sources[name])
            return (found.take(rows) if name is None and rows is not None else found).flat.astype(np.int64)

        return TaskContext(
            sources=list(self.sources),
            target=target if rows is None else target.take(rows),
            seed=self._seed("score"),
            rows=self.sources.__getitem__,
            base=lambda: some(self.embed(target)),
            base_of=lambda name: self.embed(self.sources[name]),
            tuned=tuned,
            is_classifier=lambda name: not self.sources[name].is_regression,
            space_map=lambda name: self.space_map(self.sources[name])[0],
            fisher=lambda name: self.fisher(target if name is None else self.sources[name]),
            tokens=tokens,
        )

    def prepare(self, need: str, source: LabelledTask) -> int:
        """Make what is kept of the source; its bytes on disk, or as numbers of 4 bytes."""
        if need == "tuned":
            return _size(self.tuned(source))
        if need == "map":
            found, folder = self.space_map(source)
            return _size(folder) if folder is not None else int(4 * (found.weight.size + found.bias.size))
        if need == "embedding":
            return 4 * int(self.embed(source).shape[1])  # of the mean; the embeddings are made here, not while ranking
        if need == "fisher":
            return 4 * len(self.fisher(source))
        return 4 * len(np.unique(self.tokens(source).flat))

    def _key(self, *parts: Any) -> str:
        return fingerprint(self.base.key, self.base.pooling, self.base.context, [hash_module(name) for name in CODE], *parts)

    def _seed(self, *purpose: Any) -> int:
        return int(fingerprint(self.seed, *purpose)[:7], 16)

    def _tune(self, train: LabelledTask, source: LabelledTask | None, repeat: int = 0) -> Path:
        """A model tuned on `train`, which begins from the base, or from the one that was tuned on the source."""
        start = None if source is None else self.tuned(source)
        key = self._key(train.fingerprint, repr(self.tuning), self.seed, repeat, None if start is None else start.name)

        def build(folder: Path) -> Mapping[str, Any]:
            started = time.monotonic()
            model = self.base.model(train.num_outputs, self._seed("head", repeat))
            if start is not None:
                model.encoder = _load(start).encoder
            mean, scale = self.tuning.fit(model, self.tokens(train), train, self.base.context, self._seed("order", repeat))
            card = {"task": train.name, "classes": list(train.classes), "mean": mean, "scale": scale, "base": self.base.name}
            model.eval().save(folder, card)
            return {"seconds": time.monotonic() - started}

        return self.store.get("tuned", key, build)[0]

    def _look(self, label: str, task: LabelledTask, load: Callable[[], Any], model: str) -> Seen:
        """The task's rows under a model, an artifact. Errors: an embedding that is not finite."""
        from safetensors.numpy import load_file, save_file

        from dsel.functional.task_model import run_rows

        def build(folder: Path) -> Mapping[str, Any]:
            tokens = self.tokens(task)
            started = time.monotonic()
            embeddings, outputs = run_rows(load(), tokens, self.base.context, TOKENS_PER_BATCH)
            bad = np.flatnonzero(~np.isfinite(embeddings).all(1))
            if len(bad):
                raise InputError(
                    f"task {task.name}: the embedding of row {task.ids[bad[0]]!r} under {label} is not finite ({len(bad)} rows in all); "
                    "lower tuning.learning_rate, or leave the row out"
                )
            save_file({"embeddings": embeddings, "outputs": outputs}, folder / SEEN)
            return {"seconds": time.monotonic() - started}

        folder, _ = self.store.get("seen", self._key(model, task.fingerprint), build)
        found = load_file(folder / SEEN)
        return Seen(found["embeddings"], found["outputs"])

    def _make_fisher(self, task: LabelledTask) -> Vectors:
        import torch

        from dsel.functional.fisher import diagonal_fisher
        from dsel.functional.linear_probe import fit_probe

        rows = np.random.default_rng(FISHER_SEED).permutation(len(task))[:FISHER_ROWS]
        labels = task.labels[rows]
        weight, bias = fit_probe(self.embed(task)[rows], labels, task.num_outputs, regression=task.is_regression)
        model = self.base.model(task.num_outputs, 0)
        with torch.no_grad():
            model.head.weight.copy_(torch.from_numpy(weight))
            model.head.bias.copy_(torch.from_numpy(bias))
        return diagonal_fisher(model.eval(), self.tokens(task).take(rows), labels, self.base.context)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


def _load(folder: Path) -> Any:
    import torch

    from dsel.functional.task_model import TaskModel

    model, _ = TaskModel.load(folder)
    return model.to("cuda") if torch.cuda.is_available() else model
