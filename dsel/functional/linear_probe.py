"""A linear head on embeddings that stay as they are, and how well outputs meet labels."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Labels: TypeAlias = "npt.NDArray[np.int64] | npt.NDArray[np.float64]"
STEPS = 300
ABSENT = 20.0  # how far below the others the log odds of a class are that no row has
PENALTY = 1.0  # on the weights of standardised embeddings, as a variance of the weights' prior


def fit_probe(embeddings: Vectors, labels: Labels, num_outputs: int, *, regression: bool) -> tuple[Floats, Floats]:
    """Weight (output, dim) and bias (output,) of a logistic regression, or of a ridge regression, on embeddings (row, dim).

    Classes that no row has get a bias below all others; where all rows are of one class, nothing is fitted.
    """
    from sklearn.linear_model import LogisticRegression, Ridge

    mean, scale = embeddings.mean(0, dtype=np.float64), embeddings.std(0, dtype=np.float64)
    scale = np.where(scale > 1e-8 * max(float(scale.max()), 1e-30), scale, 1.0)
    rows = (embeddings - mean) / scale
    if regression:
        fitted = Ridge(PENALTY).fit(rows, labels)
        weight, bias = np.atleast_2d(fitted.coef_), np.atleast_1d(fitted.intercept_)
    elif len(seen := np.unique(labels)) == 1:
        weight, bias = np.zeros((num_outputs, rows.shape[1])), np.full(num_outputs, -ABSENT)
        bias[seen] = 0.0
    else:
        fitted = LogisticRegression(C=1 / PENALTY, max_iter=STEPS, tol=1e-3).fit(rows, labels)
        own = (np.vstack([-fitted.coef_, fitted.coef_]) / 2, np.r_[-fitted.intercept_, fitted.intercept_] / 2)
        coef, intercept = own if len(fitted.classes_) == 2 else (fitted.coef_, fitted.intercept_)
        weight, bias = np.zeros((num_outputs, rows.shape[1])), np.full(num_outputs, intercept.min() - ABSENT)
        weight[fitted.classes_], bias[fitted.classes_] = coef, intercept
    weight = weight / scale
    return weight, bias - weight @ mean


def performance(outputs: npt.NDArray[np.floating], labels: Labels, *, regression: bool) -> float:
    """Accuracy of outputs (row, output), or the Pearson correlation of (row, 1) with numbers; 0 where one of the two does not vary."""
    if not regression:
        return float((outputs.argmax(1) == labels).mean())
    said = outputs[:, 0].astype(np.float64)
    if not np.ptp(said) or not np.ptp(labels):
        return 0.0
    return float(np.corrcoef(said, labels)[0, 1])
