"""Nearest neighbours: documents like some of the target's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.context import Context
from dsel.error import InputError
from dsel.functional.faiss_index import FaissIndex
from dsel.functional.nearest import Exact
from dsel.functional.ngram_vectors import NgramVectors
from dsel.functional.ngrams import Ngrams
from dsel.functional.spectrum import Spectrum, unit
from dsel.pool import TEXT, TOKENS, Pool
from dsel.protocol import FittedScore

Vectors = npt.NDArray[np.float32]
IndexName = Literal["exact", "flat", "ivf", "hnsw"]
NUM_FEATURES = 2**18  # buckets that tell n-grams apart before they share coordinates
ROWS = 2048  # documents whose vectors are in memory at once


class Index(Protocol):
    """Finds neighbours."""

    def mean_similarity(self, queries: Vectors, k: int) -> Vectors:
        """Mean inner product (query,) of each query (query, dim) with its nearest `k`."""
        ...


@dataclass(frozen=True)
class NeighbourSimilarity:
    """The fitted score: mean cosine of a document's vector with those of its `k` nearest target documents."""

    vectors: Callable[[pa.Table], Vectors]
    spectrum: Spectrum | None
    index: Index
    k: int

    def __call__(self, batch: pa.Table) -> npt.NDArray[np.float32]:
        """Scores (unit, 1)."""
        scores = np.zeros((batch.num_rows, 1), np.float32)
        for first in range(0, batch.num_rows, ROWS):
            queries = directions(self.vectors(batch.slice(first, ROWS)), self.spectrum)
            scores[first : first + ROWS, 0] = self.index.mean_similarity(queries, self.k)
        return scores


@dataclass(frozen=True)
class EachSimilarity:
    """The fitted score: cosine of a document's vector with that of each target document (query, dim)."""

    vectors: Callable[[pa.Table], Vectors]
    spectrum: Spectrum | None
    neighbours: Vectors

    def __call__(self, batch: pa.Table) -> npt.NDArray[np.float32]:
        """Scores (unit, query)."""
        found: Vectors = directions(all_vectors(self.vectors, batch), self.spectrum) @ self.neighbours.T
        return found.astype(np.float32)


def directions(vectors: Vectors, spectrum: Spectrum | None) -> Vectors:
    """Unit vectors (row, dim), centred and flattened where there is a spectrum."""
    return unit(vectors) if spectrum is None else spectrum.flatten(vectors)


def all_vectors(vectors: Callable[[pa.Table], Vectors], table: pa.Table) -> Vectors:
    """Vectors (row, dim) of the whole table, made some at a time."""
    return np.concatenate([vectors(table.slice(first, ROWS)) for first in range(0, table.num_rows, ROWS)])


@dataclass(frozen=True)
class Knn:
    """score = mean cosine similarity to the `k` nearest target documents; `k=1`: to the nearest. 0 for a text without n-grams.

    `encoder`: "ngrams" = hashed n-grams of up to `max_ngram` words in `dim` numbers, which needs no model; "pretrained" = the
    run's own language model, newest checkpoint, last hidden states; "minilm" = the sentence encoder of the extra `dsel[encoder]`;
    else a folder or hub name for `AutoModel`. Models read the first `max_length` tokens, `batch_size` documents at a time, and
    their last states are averaged over the tokens. `index`: "exact", or by faiss "flat" (exact as well), "ivf", "hnsw".

    Vectors are centred on the mean of `sample` documents of the source, and directions in which those vary more than
    `max_variance` times the mean are scaled down to that: what all texts share says nothing. null leaves vectors as they are.

    `each`: a column for every target document, the cosine with it; `k` and `index` then have no part in it.
    """

    encoder: str = "ngrams"
    k: int = 10
    index: IndexName = "exact"
    max_ngram: int = 1
    dim: int = 1024
    max_variance: float | None = 4.0
    sample: int = 2000
    max_length: int = 128
    batch_size: int = 32
    each: bool = False

    def __post_init__(self) -> None:
        if self.index not in get_args(IndexName):
            raise InputError(f"scorer.index={self.index!r}: must be one of {', '.join(get_args(IndexName))}")
        for name in ("k", "sample", "max_length", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"scorer.{name}={getattr(self, name)}: must be at least 1")
        if self.max_variance is not None and not self.max_variance > 0:
            raise InputError(f"scorer.max_variance={self.max_variance}: must be above 0, or null")

    @property
    def reads(self) -> Sequence[str]:
        """Tokens for the run's own model, else text: then nothing is pretrained."""
        return (TOKENS,) if self.encoder == "pretrained" else (TEXT,)

    @property
    def num_passes(self) -> float:
        """Passes of the run's own model over the pool."""
        return float(self.encoder == "pretrained")

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        """Vectors of the target, and the spectrum of a sample of the source."""
        vectors = self._vectors(context)
        spectrum = None
        if self.max_variance is not None:
            rows = np.sort(context.rng.choice(len(source), min(self.sample, len(source)), replace=False))
            spectrum = Spectrum.of(all_vectors(vectors, source.take(rows).table), self.max_variance)
        neighbours = directions(all_vectors(vectors, target.table), spectrum)
        if self.each:
            return EachSimilarity(vectors, spectrum, neighbours)
        index = Exact(neighbours) if self.index == "exact" else FaissIndex.of(neighbours, self.index)
        return NeighbourSimilarity(vectors, spectrum, index, self.k)

    def _vectors(self, context: Context) -> Callable[[pa.Table], Vectors]:
        if self.encoder == "ngrams":
            return NgramVectors(Ngrams(self.max_ngram, NUM_FEATURES), self.dim)
        from dsel.functional.embedding import Encoder, MeanVectors, load_encoder  # torch: a second, which n-grams do not need

        if self.encoder != "pretrained":
            return MeanVectors(load_encoder(self.encoder, self.max_length, "'ngrams', 'pretrained', 'minilm'"), self.batch_size)
        assert context.model is not None
        model = context.load(None).base_model
        return MeanVectors(Encoder(model, min(self.max_length, context.model.context)), self.batch_size)  # type: ignore[arg-type]
