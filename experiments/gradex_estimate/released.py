"""The authors' notebook on noisy addition as an estimator, to be judged by the same trainings as ours.

The notebook is examples/example_noisy_synthetic_addition_task.ipynb of github.com/VirtuosoResearch/Scalable-finetuning:

    PYTHONPATH=experiments/gradex_estimate dsel experiment=gradex_estimate label=released name=gradex_estimate-released \\
        hydra.mode=RUN \\
        'allow=[released]' '~estimator' '+estimator={_target_: released.Released, notebook: NOTEBOOK.ipynb}' phases.judge.num_estimated=0

Three of its cells run as they are: the projection matrix, the gradients, and `first_order_approximation`, which moves the model by a
logistic regression on random labels without the offset. Ours are the model, its rows and the loss that is measured on the moved model.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dsel.context import Context
from dsel.functional.masks import Subsets, check_subsets
from dsel.functional.unit_outputs import logistic_losses, unit_outputs
from dsel.objective.pairs import Pairs
from dsel.pool import Pool
from dsel.progress import progress
from dsel.protocol import Estimate
from dsel.subset import Work

CELLS = ("matrix_P = ", "torch.autograd.grad(tmp_loss", "def first_order_approximation(")  # by what stands in them, in order
BATCH = 64  # theirs


@dataclass(frozen=True)
class Released:
    """`notebook`: the path of theirs."""

    notebook: str

    def fit(self, source: Pool, target: Pool, context: Context) -> Estimate:
        """Gradients of all rows, by their cells, in a folder that is deleted with the process."""
        started = time.monotonic()
        assert context.model is not None
        folder = tempfile.mkdtemp(prefix="released-")
        model, length = context.load(None).requires_grad_(True), context.model.context

        def measure() -> dict[str, Any]:
            return {"losses": logistic_losses(unit_outputs(model, context.objective, target.table, length))}

        names: dict[str, Any] = {
            "np": np, "torch": torch, "os": os, "model": model, "device": torch.device("cpu"), "algorithm": "addition", "data_dir": "ours",
            "checkpoint_dir": folder, "train_data_loader": list(batches(source, context)), "valid_epoch": measure,
            "prepare_inputs": lambda batch, device: batch,
        }  # fmt: skip
        torch.save(model.state_dict(), Path(folder) / "model_best.pth")  # what their cells load
        here = Path.cwd()
        with their_randomness(0), contextlib.redirect_stdout(io.StringIO()):
            os.chdir(folder)  # they write beside themselves
            try:
                for cell in read_cells(Path(self.notebook) if Path(self.notebook).is_absolute() else here / self.notebook):
                    exec(cell, names)
            finally:
                os.chdir(here)
        names["gradients_dir"] = str(Path(folder) / names["gradients_dir"])
        return ReleasedEstimate(source, names, Work(time.monotonic() - started))


@dataclass(frozen=True)
class ReleasedEstimate:
    """A logistic regression and a pass over the target for each subset."""

    source: Pool
    names: Mapping[str, Any]
    work: Work

    def __call__(self, subsets: Subsets) -> npt.NDArray[np.float64]:
        """(subset, unit of the target)."""
        names, numbers = self.source.tasks()
        found = []
        with progress("released", len(subsets), "subsets") as bar, their_randomness(1):
            for mask in check_subsets(subsets, len(names)):
                with contextlib.redirect_stdout(io.StringIO()):
                    found.append(self.names["first_order_approximation"](np.flatnonzero(mask[numbers]))["losses"])
                bar.advance(1)
        return np.stack(found)

    def flops(self, num_subsets: int) -> float:
        """Not counted."""
        return 0.0


def read_cells(notebook: Path) -> Iterator[str]:
    """The source of the cells that run."""
    cells = ["".join(cell["source"]) for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    for mark in CELLS:
        yield next(cell for cell in cells if mark in cell)


def batches(source: Pool, context: Context) -> Iterator[dict[str, torch.Tensor]]:
    """The rows in order, as their collator has them: question and answer as one text, and -100 where nothing is to be predicted."""
    assert context.model is not None
    for first in range(0, len(source), BATCH):
        texts = []
        for row in range(first, min(first + BATCH, len(source))):
            ((_, pair),) = context.objective.rows(source.table.slice(row, 1), context.model.context, 2048)
            assert isinstance(pair, Pairs)
            question, answer = pair.source[0], pair.target[0, 1:]
            texts.append((torch.cat([question, answer]), len(question)))
        width = max(len(text) for text, _ in texts)
        ids, labels = torch.zeros(len(texts), width, dtype=torch.int64), torch.full((len(texts), width), -100)
        mask = torch.zeros_like(ids)
        for at, (text, question_length) in enumerate(texts):
            ids[at, : len(text)], mask[at, : len(text)] = text, 1
            labels[at, question_length : len(text)] = text[question_length:]
        yield {"input_ids": ids, "attention_mask": mask, "labels": labels}


@contextmanager
def their_randomness(seed: int) -> Iterator[None]:
    """They draw from numpy's global generator: from `seed` on, and it is as before afterwards."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
