"""Gradients of the rows of a batch, turned in some way and projected to few dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from dsel.error import InputError
from dsel.functional.example_gradients import offsets
from dsel.functional.ghost import Tape
from dsel.functional.log_odds import log_odds
from dsel.functional.projection import Projection

if TYPE_CHECKING:
    from dsel.protocol import Losses

Turn = Callable[[str, torch.Tensor], torch.Tensor]
OF = ("loss", "log_odds")


def project_rows(
    model: torch.nn.Module, objective: Losses, batch: Any, projection: Projection, of: str, turn: Turn | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """P^T times what `turn` makes of each row's gradient by the trained parameters (row, dim), in the order of `offsets`, and the rows'
    mean token losses (row,). The gradient is that of the mean token loss, or of the mean log odds of arXiv 2409.19458.

    Errors: neither of these; a layer whose part in a row cannot be told.
    """
    if of not in OF:
        raise InputError(f"gradients of {of!r}: must be one of {', '.join(OF)}")
    predicted, starts = objective.predicted(batch), offsets(model)
    with torch.enable_grad(), Tape(model) as tape:
        tape.begin(len(predicted))
        losses = objective.token_losses(model, batch)
        means = (losses * predicted).sum(1) / predicted.sum(1).clamp_min(1)
        tape.backward((means if of == "loss" else log_odds(losses, predicted)).sum())
    found = means.detach().new_zeros(len(predicted), projection.dim)
    with torch.no_grad():
        for name, gradients in tape.example_gradients():
            values = gradients if turn is None else turn(name, gradients)
            projection.add(found, values.flatten(1), starts[name])
    return found, means.detach()
