"""Diagonal Fisher informations against gradients of one row at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from ranking_lab import tiny_bert

from dsel.functional import fisher
from dsel.functional.fisher import diagonal_fisher
from dsel.functional.pairs import Ragged
from dsel.functional.task_model import TaskModel


def task_model(num_outputs: int, pooling: str, **shape: object) -> TaskModel:
    bert = tiny_bert(num_hidden_layers=2, **shape)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return TaskModel(bert, pooling, num_outputs).eval()


def texts(num_rows: int = 12) -> Ragged:
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 10, num_rows)
    return Ragged(rng.integers(0, 60, lengths.sum()), np.r_[0, np.cumsum(lengths)])


def by_hand(model: TaskModel, tokens: Ragged, labels: npt.NDArray[np.generic], longest: int) -> npt.NDArray[np.float32]:
    """The mean of squared gradients, a backward pass a row."""
    trained = [p for name, p in model.encoder.named_parameters() if not name.startswith("embeddings.") and "pooler" not in name]
    total = torch.zeros(sum(p.numel() for p in trained))
    for row, label in enumerate(labels):
        first = int(tokens.offsets[row])
        own = tokens.flat[first : int(tokens.offsets[row + 1])][:longest]
        outputs = model(torch.from_numpy(own)[None])
        if isinstance(label, np.floating):
            loss = -torch.distributions.Normal(outputs[0, 0], 1.0).log_prob(torch.tensor(float(label)))
        else:
            loss = -outputs[0].log_softmax(0)[int(label)]
        total += torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, trained)]) ** 2
    found: npt.NDArray[np.float32] = (total / len(labels)).numpy()
    return found


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("longest", [20, 5])
def test_classes(pooling: str, longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fisher, "TOKENS_PER_BATCH", 24)  # several batches
    model, tokens, labels = task_model(3, pooling), texts(), np.random.default_rng(1).integers(0, 3, 12)
    expected = by_hand(model, tokens, labels, longest)
    found = diagonal_fisher(model, tokens, labels, longest)
    assert found.dtype == np.float32
    assert expected.max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6 * expected.max())


def test_numbers() -> None:
    model, tokens, numbers = task_model(1, "mean"), texts(), np.random.default_rng(1).normal(size=12)
    expected = by_hand(model, tokens, numbers, 20)
    np.testing.assert_allclose(diagonal_fisher(model, tokens, numbers, 20), expected, rtol=1e-3, atol=1e-6 * expected.max())


def test_embeddings_pooler_and_head_are_left_out() -> None:
    """The vocabulary's size and the number of classes change nothing of its length."""
    layers = sum(p.numel() for p in task_model(2, "mean").encoder.encoder.parameters())  # type: ignore[union-attr]
    labels = np.arange(12) % 2
    for model in (task_model(2, "mean"), task_model(5, "mean"), task_model(2, "mean", vocab_size=90)):
        assert diagonal_fisher(model, texts(), labels, 20).shape == (layers,)
