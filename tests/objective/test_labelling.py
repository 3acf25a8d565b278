"""Losses of labels against torch's functions; and batches that visit every row once an epoch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsel.functional.blocks import IGNORE
from dsel.functional.pairs import Ragged
from dsel.objective.labelling import Labelling, RowBatches, Rows


class Sums(torch.nn.Module):
    """A linear map of the tokens."""

    def __init__(self, time: int, num_outputs: int) -> None:
        super().__init__()
        self.weight = torch.randn(num_outputs, time, generator=torch.Generator().manual_seed(0))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.float() @ self.weight.T


def numbered(lengths: list[int]) -> Ragged:
    """Of each row its number, as often as it is long."""
    return Ragged(np.repeat(np.arange(len(lengths)), lengths), np.r_[0, np.cumsum(lengths)])


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_losses_of_classes(smoothing: float) -> None:
    tokens, labels, model = torch.arange(12).view(4, 3), torch.tensor([0, 2, 1, 1]), Sums(3, 3)
    losses = Labelling().token_losses(model, Rows(tokens, labels), smoothing)
    logs = model(tokens).log_softmax(1)
    expected = -(1 - smoothing) * logs[torch.arange(4), labels] - smoothing * logs.mean(1)
    torch.testing.assert_close(losses, expected[:, None])


def test_losses_of_numbers() -> None:
    tokens, numbers, model = torch.arange(12).view(4, 3), torch.tensor([0.5, -2.0, 1.0, 30.0]), Sums(3, 1)
    losses = Labelling().token_losses(model, Rows(tokens, numbers))
    torch.testing.assert_close(losses, 0.5 * torch.nn.functional.mse_loss(model(tokens)[:, 0], numbers, reduction="none")[:, None])
    predicted = Labelling().predicted(Rows(tokens, numbers))
    assert predicted.shape == losses.shape
    assert predicted.all()


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=70), batch_size=st.integers(1, 9), context=st.integers(2, 6),
    seed=st.integers(0, 99), epoch=st.integers(0, 3),
)  # fmt: skip
def test_every_row_once_an_epoch(lengths: list[int], batch_size: int, context: int, seed: int, epoch: int) -> None:
    labels = torch.arange(len(lengths)) * 10
    batches = RowBatches(numbered(lengths), labels, context, batch_size, seed)
    assert batches.per_epoch == -(-len(lengths) // batch_size)
    visited = []
    for step in range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch):
        tokens, own = batches[step]
        assert 1 <= len(tokens) <= batch_size
        for row, label in zip(tokens, own, strict=True):
            number = int(row[0])
            assert int(label) == 10 * number
            assert row.tolist() == [number] * min(lengths[number], context) + [IGNORE] * (tokens.shape[1] - min(lengths[number], context))
            visited.append(number)
    assert sorted(visited) == list(range(len(lengths)))


def test_batches_hang_on_seed_and_step_alone() -> None:
    rng = np.random.default_rng(0)
    tokens, labels = numbered(rng.integers(1, 9, 100).tolist()), torch.arange(100)
    one, other, third = (RowBatches(tokens, labels, 8, 16, seed) for seed in (3, 3, 4))
    forward = [one[step].labels.tolist() for step in range(21)]
    backward = [other[step].labels.tolist() for step in reversed(range(21))][::-1]
    assert forward == backward
    assert forward != [third[step].labels.tolist() for step in range(21)]
    assert forward[:7] != forward[7:14]


def test_rows_of_one_length_stand_together() -> None:
    lengths = np.random.default_rng(0).integers(1, 40, 256)
    batches = RowBatches(numbered(lengths.tolist()), torch.from_numpy(lengths), 64, 16, 0)
    spreads = [np.ptp(batches[step].labels.numpy()) for step in range(batches.per_epoch)]
    assert np.mean(spreads) < 8  # 39 or so, were they mixed
    first = [float(batches[step].labels.float().mean()) for step in range(batches.per_epoch)]
    assert first != sorted(first)
