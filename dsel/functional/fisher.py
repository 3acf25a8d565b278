"""Diagonal Fisher information: which parameters of an encoder a task leans on."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from dsel.functional.ghost import Tape
from dsel.functional.pairs import Ragged, by_length, rectangle
from dsel.functional.task_model import TaskModel

Labels: TypeAlias = "npt.NDArray[np.int64] | npt.NDArray[np.float64]"
TOKENS_PER_BATCH = 512
EMBEDDINGS = "embeddings."


def diagonal_fisher(model: TaskModel, tokens: Ragged, labels: Labels, longest: int) -> npt.NDArray[np.float32]:
    """The mean over rows of the squared gradient of a label's log likelihood, by each parameter of the encoder's layers (parameter,):
    the empirical Fisher information of arXiv 1902.03545 and 2005.00770.

    Numbers are taken as normal with variance 1. Token embeddings and head are left out: the one differs between tasks by their words
    alone, the other has another shape in each.
    """
    encoder = model.encoder
    trained = {name: p for name, p in encoder.named_parameters() if not name.startswith(EMBEDDINGS) and "pooler" not in name}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.removeprefix("encoder.") in trained and name.startswith("encoder."))
    sums = {f"encoder.{name}": torch.zeros_like(parameter) for name, parameter in trained.items()}
    for which in by_length(tokens.lengths.clip(max=longest), TOKENS_PER_BATCH):
        given = torch.from_numpy(labels[which])
        with Tape(model) as tape:
            tape.begin(len(which))
            outputs = model(torch.from_numpy(rectangle(tokens, which, longest))).float()
            if given.is_floating_point():
                loss = 0.5 * ((outputs[:, 0] - given.float()) ** 2).sum()
            else:
                loss = F.cross_entropy(outputs, given, reduction="sum")
            tape.backward(loss)
        with torch.no_grad():
            for name, calls in tape.batches[0].by_parameter(None).items():
                gradient = sum(call.per_example(own) for call, own in calls)
                sums[name] += (gradient**2).sum(0)  # type: ignore[union-attr]
    flat = torch.cat([total.flatten() for total in sums.values()]) / max(len(labels), 1)
    found: npt.NDArray[np.float32] = flat.cpu().numpy()
    return found
