"""Labels: the loss of each row's class or number, under an encoder with a head."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from dsel.functional.pairs import Ragged, rectangle
from dsel.functional.token_losses import token_losses

GROUPED = 16  # batches whose rows are sorted by length together


class Rows(NamedTuple):
    """Tokens (row, time), padded at their ends with `IGNORE`, and labels (row,): whole numbers are classes."""

    tokens: torch.Tensor
    labels: torch.Tensor

    def to(self, device: torch.device | str) -> Rows:
        """The same on a device."""
        return Rows(self.tokens.to(device), self.labels.to(device))


class Labelling:
    """A batch is `Rows`."""

    def token_losses(self, model: torch.nn.Module, batch: Rows, smoothing: float = 0.0) -> torch.Tensor:
        """Cross entropy in nats, or half of the squared error, of each row (row, 1)."""
        return token_losses(*self.outputs(model, batch), smoothing)

    def outputs(self, model: torch.nn.Module, batch: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (row, 1, class) or numbers (row, 1, 1), and labels (row, 1)."""
        return model(batch.tokens)[:, None], batch.labels[:, None]

    def predicted(self, batch: Rows) -> torch.Tensor:
        """Each row has one label (row, 1)."""
        return torch.ones(len(batch.labels), 1, dtype=torch.bool, device=batch.labels.device)


class RowBatches(torch.utils.data.Dataset[Rows]):
    """Item `step` is that step's batch of `batch_size` rows; every epoch has a new order, in which rows of one length stand together."""

    def __init__(self, tokens: Ragged, labels: torch.Tensor, context: int, batch_size: int, seed: int) -> None:
        self.tokens, self.labels, self.batch_size, self.seed = tokens, labels, batch_size, seed
        self.context, self.unit = 1, "rows"  # a row has one label, which is what progress counts
        self.longest = context
        self.per_epoch = -(-len(labels) // batch_size)
        self._orders: dict[int, list[np.ndarray]] = {}

    def __getitem__(self, step: int) -> Rows:
        epoch, place = divmod(step, self.per_epoch)
        if epoch not in self._orders:
            self._orders = {epoch: self._order(epoch)}
        which = self._orders[epoch][place]
        return Rows(torch.from_numpy(rectangle(self.tokens, which, self.longest)), self.labels[torch.from_numpy(which)])

    def _order(self, epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng([self.seed, epoch])
        rows = rng.permutation(len(self.labels))
        lengths, size = self.tokens.lengths, self.batch_size
        groups = [rows[first : first + GROUPED * size] for first in range(0, len(rows), GROUPED * size)]
        batches = [
            group[np.argsort(lengths[group], kind="stable")][first : first + size]
            for group in groups
            for first in range(0, len(group), size)
        ]
        return [batches[at] for at in rng.permutation(len(batches))]
