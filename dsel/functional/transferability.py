"""How much a source task should help a target task, from outputs, tokens, embeddings or gradients of a model. Pure numpy."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dsel.error import InputError

Floats: TypeAlias = "npt.NDArray[np.float32] | npt.NDArray[np.float64]"
Classes = npt.NDArray[np.int64]
CHUNK = 1 << 20  # parameters that are in float64 at once


def leep(source_probabilities: Floats, labels: Classes) -> float:
    """LEEP (arXiv 2002.12462): the mean log likelihood of labels (row,) by way of a source model's probabilities (row, source class).

    A source class stands for the target classes that its rows have, weighed by its probability. At most 0. Errors: rows that do not
    sum to 1, negative or missing values, labels that are not whole numbers from 0.
    """
    labels, probabilities = _classes("labels", labels), np.asarray(source_probabilities, np.float64)
    if probabilities.ndim != 2 or len(probabilities) != len(labels):
        raise InputError(f"source probabilities {probabilities.shape} and labels {labels.shape}; expected (row, source class) and (row,)")
    wrong = np.flatnonzero(~((probabilities >= 0).all(1) & (np.abs(probabilities.sum(1) - 1) < 1e-3)))
    if len(wrong):
        raise InputError(f"row {wrong[0]}: its source probabilities sum to {probabilities[wrong[0]].sum()}; give each 0 or more, in all 1")
    joint = np.zeros((int(labels.max()) + 1, probabilities.shape[1]))
    np.add.at(joint, labels, probabilities)
    totals = joint.sum(0)
    conditional = joint / np.where(totals > 0, totals, 1)
    return float(np.log((conditional[labels] * probabilities).sum(1)).mean())


def nce(source_labels: Classes, labels: Classes) -> float:
    """The negative conditional entropy in nats (arXiv 1908.08142) of labels (row,), given a source model's labels (row,); at most 0.

    Errors: unequal numbers of rows, labels that are not whole numbers from 0.
    """
    source, target = _classes("source labels", source_labels), _classes("labels", labels)
    if len(source) != len(target):
        raise InputError(f"source labels {source.shape} and labels {target.shape}; give one of both per row")
    pairs, counts = np.unique(np.stack([source, target]), axis=1, return_counts=True)
    return float(counts @ np.log(counts / np.bincount(source)[pairs[0]]) / len(source)) + 0.0


def vocabulary_overlap(tokens_a: Iterable[Hashable], tokens_b: Iterable[Hashable]) -> float:
    """The share of the tokens of either task that both have (Jaccard), each counted once. Errors: no tokens at all."""
    first, second = (set(some.ravel().tolist() if isinstance(some, np.ndarray) else some) for some in (tokens_a, tokens_b))
    if not first | second:
        raise InputError("tokens: neither task has any; give texts that are not empty")
    return len(first & second) / len(first | second)


def mean_cosine(a: Floats, b: Floats) -> float:
    """The cosine between the mean embeddings of two tasks, (row, dim) each: TextEmb (arXiv 2005.00770).

    Errors: other shapes, rows that are not finite, a mean of zero.
    """
    if np.ndim(a) != 2 or np.ndim(b) != 2 or np.shape(a)[1] != np.shape(b)[1] or not len(a) or not len(b):
        raise InputError(f"embeddings {np.shape(a)} and {np.shape(b)}; expected (row, dim) of both, of one width")
    for name, rows in (("first", a), ("second", b)):
        bad = np.flatnonzero(~np.isfinite(rows).all(1))
        if len(bad):
            raise InputError(f"row {bad[0]} of the {name} task: its embedding is not finite; leave the row out")
    return _cosine("mean embedding", *(np.asarray(rows.mean(0, dtype=np.float64)) for rows in (a, b)))


def fisher_cosine(fisher_a: Floats, fisher_b: Floats) -> float:
    """The cosine between the diagonal Fisher informations of two tasks, (parameter,) each: TaskEmb (arXiv 2005.00770).

    Errors: other shapes, negative or missing values, all zero.
    """
    if np.ndim(fisher_a) != 1 or np.shape(fisher_a) != np.shape(fisher_b) or not len(fisher_a):
        raise InputError(f"Fisher informations {np.shape(fisher_a)} and {np.shape(fisher_b)}; expected (parameter,) of both")
    for name, values in (("first", fisher_a), ("second", fisher_b)):
        if not (values.min() >= 0 and np.isfinite(values.max())):
            place = int(np.argmin((values >= 0) & np.isfinite(values)))
            raise InputError(f"parameter {place} of the {name} task: Fisher information {values[place]}; it is a mean of squares")
    return _cosine("Fisher information", fisher_a, fisher_b)


def _cosine(name: str, a: Floats, b: Floats) -> float:
    """In chunks: Fisher informations are as large as the model. Scaled, since squares of what is huge or tiny are lost."""
    scales = [float(np.abs(values).max()) for values in (a, b)]
    if not all(scales):
        raise InputError(f"{name} of the {'first' if not scales[0] else 'second'} task: all zero; a cosine needs a direction")
    sums = np.zeros(3)
    for start in range(0, len(a), CHUNK):
        first, second = (values[start : start + CHUNK].astype(np.float64) / scale for values, scale in zip((a, b), scales, strict=True))
        sums += first @ second, first @ first, second @ second
    return float(np.clip(sums[0] / np.sqrt(sums[1] * sums[2]), -1, 1))


def _classes(name: str, labels: Classes) -> Classes:
    labels = np.asarray(labels)
    if labels.ndim != 1 or not len(labels) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"{name}: {labels.dtype} of shape {labels.shape}; expected whole numbers (row,), one or more")
    if labels.min() < 0:
        row = int(np.argmax(labels < 0))
        raise InputError(f"row {row}: its value among the {name} is {labels[row]}; classes count from 0, leave out rows without one")
    return labels.astype(np.int64)
