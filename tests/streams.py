"""Selections from streams without the command line around them, and a source written as files in many ways."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zstandard

from dsel import corpus as corpora
from dsel.artifact import Store
from dsel.context import Context, World
from dsel.corpus import Split
from dsel.executor.local import Local
from dsel.objective.language_modeling import LanguageModeling
from dsel.phase.choose import Choose
from dsel.phase.scan import Scan
from dsel.phase.write import Write
from dsel.pool import Budget, Pool
from dsel.protocol import Executor, FittedScore, Selector
from dsel.selector.by_score import ByScore
from dsel.state import State
from dsel.stream import PoolStream

Rows = list[dict[str, Any]]
KINDS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".csv", ".csv.gz", ".txt", ".txt.zst", ".parquet", ".parquet.gz")


def encode(kind: str, texts: Sequence[str], number: int = 0) -> bytes:
    """A file of texts, with a column `n` that counts from `number` where the format has columns."""
    if kind.endswith(".gz"):
        return gzip.compress(encode(kind.removesuffix(".gz"), texts, number))
    if kind.endswith(".zst"):
        return zstandard.compress(encode(kind.removesuffix(".zst"), texts, number))
    if kind == ".parquet":
        sink = io.BytesIO()
        table = pa.table({"text": pa.array(texts, pa.string()), "n": np.arange(number, number + len(texts))})
        pq.write_table(table, sink, row_group_size=3, write_page_checksum=True)
        return sink.getvalue()
    if kind == ".csv":
        out = io.StringIO(newline="")
        csv.writer(out).writerows([["text", "n"], *([text, number + i] for i, text in enumerate(texts))])
        return out.getvalue().encode()
    if kind == ".txt":
        return "".join(f"{text}\n" for text in texts).encode()
    return "".join(json.dumps({"text": text, "n": number + i}) + "\n" for i, text in enumerate(texts)).encode()


def sentences(count: int, seed: int = 0) -> list[str]:
    """Different texts, of many lengths."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(["bark", "wing", "ore", "lamp", "été", "東京"], k=rng.randint(1, 12))) + f" {i}" for i in range(count)]


@dataclass(frozen=True)
class Length:
    """Scores a text by its length: many ties."""

    reads = ("text",)

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        return lambda batch: np.asarray(pc.utf8_length(batch["text"]), dtype=np.float32)[:, None]


@dataclass(frozen=True)
class Fitted:
    """Scores a text by a hash of it and of the sample that was fitted on: different for every text, and for every sample."""

    reads = ("text",)

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        salt = "".join(sorted(source.table["text"].to_pylist()))

        def score(batch: pa.Table) -> npt.NDArray[np.float32]:
            return np.array([random.Random(text + salt).random() for text in batch["text"].to_pylist()], np.float32)[:, None]

        return score


@dataclass(frozen=True)
class Shuffled:
    """Does the pieces in another order than their own, all at once, and hands them out in order."""

    seed: int = 0

    def map(
        self, work: Callable[[Any], Any], items: Sequence[Any], sizes: Sequence[int], label: str, unit: str
    ) -> Iterator[Any]:  # fmt: skip
        done = {number: work(items[number]) for number in random.Random(self.seed).sample(range(len(items)), len(items))}
        yield from (done[number] for number in range(len(items)))


def select(
    data: Any, folder: Path, scorer: Any = None, selector: Selector | None = None, budget: Budget | None = None,
    executor: Executor | None = None, kind: str = ".jsonl", tokenizer: Any = None,
) -> tuple[Rows, dict[str, Any]]:  # fmt: skip
    """Scan, choose and write a stream: the rows of the output, and its record without what a run adds."""
    store = Store(folder / "artifacts")
    (parts := folder / "corpus").mkdir(exist_ok=True)
    corpora.prepare(data.read(), Split(test=0.0), parts)
    corpus = corpora.load(parts)
    stream = getattr(data, "stream", None) or PoolStream(corpus.source, corpus.record["facts"].get("columns"))
    config = {"phases": {"score": {"scorer": repr(scorer), "tokens": tokenizer is not None}}, "model": None}  # else what pieces hang on
    nothing: Any = None
    world = World("", 0, corpus, nothing, LanguageModeling(), executor or Local(2), store, stream, tokenizer, "", config)
    phases = {
        "score": Scan(scorer or Length(), nothing, count_tokens=tokenizer is not None),
        "select": Choose(selector or ByScore(), budget or Budget(units=5)),
        "export": Write(str(folder / f"best{kind}"), overwrite=True),
    }
    state = State("")
    for name, phase in phases.items():
        here, made = replace(world, name=name), store.root / name
        made.mkdir(parents=True, exist_ok=True)
        phase.run(state, here, made)
        state = phase.read(replace(state, artifacts={**state.artifacts, name: made}), here, made)
    record = json.loads((folder / "best.json").read_text(encoding="utf-8"))
    return read_output(folder / f"best{kind}"), {key: record[key] for key in ("chosen", "read", "dropped", "listed")}


def read_output(path: Path) -> Rows:
    """The rows of a file that was written."""
    if path.suffix == ".parquet":
        rows: Rows = pq.read_table(path).to_pylist()
        return rows
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
