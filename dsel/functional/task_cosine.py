"""How far each task points the way of the target."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dsel.error import InputError

Vectors = npt.NDArray[np.float32] | npt.NDArray[np.float64]


def task_cosines(source: Vectors, task: npt.NDArray[np.int64], target: Vectors) -> npt.NDArray[np.float64]:
    """The cosine (task,) between the mean of a task's rows and that of the target's, for source (row, dim), its tasks (row,), 0 upwards,
    and target (row, dim).

    Errors: vectors of different widths or not finite, a task without rows, a mean of zero, which has no direction.
    """
    if np.ndim(source) != 2 or np.shape(task) != (len(source),) or np.shape(target)[1:] != np.shape(source)[1:] or not len(target):
        shapes = f"source {np.shape(source)}, task {np.shape(task)}, target {np.shape(target)}"
        raise InputError(f"vectors: {shapes}; expected (row, dim), (row,) and (row, dim)")
    for name, vectors in (("source", source), ("target", target)):
        bad = np.flatnonzero(~np.isfinite(vectors).all(1))
        if len(bad):
            raise InputError(f"{name} row {bad[0]}: its vector is not finite; leave the row out")
    counts = np.bincount(task)
    if not counts.all():
        raise InputError(f"task {int(counts.argmin())}: has no rows; number tasks from 0 without gaps")
    sums = np.zeros((len(counts), source.shape[1]))
    np.add.at(sums, task, source.astype(np.float64))
    towards = _unit((sums / counts[:, None]), "task {}")
    aim = _unit(target.mean(0, dtype=np.float64, keepdims=True), "target")[0]
    cosines: npt.NDArray[np.float64] = (towards @ aim).clip(-1, 1)
    return cosines


def _unit(means: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    if not norms.all():
        raise InputError(f"{name.format(int(norms.argmin()))}: the mean of its vectors is zero; a cosine needs a direction")
    scaled: npt.NDArray[np.float64] = means / norms
    return scaled
