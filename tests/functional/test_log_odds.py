"""Log odds against probabilities by softmax."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from dsel.functional.log_odds import log_odds


def draw() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (example, time, word), right words and what is predicted (example, time)."""
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(4, 6, 5, generator=generator, dtype=torch.float64)
    predicted = torch.rand(4, 6, generator=generator) < 0.7
    predicted[:, 0] = True
    return logits.requires_grad_(), torch.randint(5, (4, 6), generator=generator), predicted


def losses_of(logits: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return cross_entropy(logits.flatten(0, 1), right.flatten(), reduction="none").view(right.shape)


@pytest.mark.parametrize("cap", [0.99, 0.5])
def test_is_the_formula_and_so_is_its_gradient(cap: float) -> None:
    logits, right, predicted = draw()
    found = log_odds(losses_of(logits, right), predicted, cap)
    p = logits.softmax(2).gather(2, right[..., None])[..., 0]
    beyond = (p > cap) | (p < 1e-6)
    assert (p > cap).any()
    assert (p < 1e-6).any()
    held = torch.where(beyond, (p > cap) * cap + (p < 1e-6) * 1e-6, p)
    expected = torch.stack([(own / (1 - own)).log()[which].mean() for own, which in zip(held, predicted, strict=True)])
    torch.testing.assert_close(found, expected)
    weights = torch.arange(1.0, 5.0, dtype=torch.float64)
    (mine,) = torch.autograd.grad((found * weights).sum(), logits)
    (theirs,) = torch.autograd.grad((expected * weights).sum(), logits)
    torch.testing.assert_close(mine, theirs)
    assert (mine[~predicted] == 0).all()
    assert (mine[beyond] == 0).all()


def test_extremes_are_finite() -> None:
    losses = torch.tensor([[0.0, 1e-12, 1e-7, 80.0, 1e6, torch.inf, torch.nan]], requires_grad=True)
    predicted = torch.tensor([[True, True, True, True, True, True, False]])
    found = log_odds(losses, predicted)
    found.sum().backward()
    assert losses.grad is not None
    assert (losses.grad == 0).all()
    expected = (3 * math.log(0.99 / 0.01) + 3 * math.log(1e-6 / (1 - 1e-6))) / 6
    torch.testing.assert_close(found, torch.tensor([expected]), rtol=1e-5, atol=0.0)


def test_nothing_predicted_is_zero_and_half_precision_is_widened() -> None:
    losses = torch.tensor([[0.7, 0.2], [1.5, 3.0]], dtype=torch.bfloat16)
    found = log_odds(losses, torch.tensor([[False, False], [True, False]]))
    assert found.dtype == torch.float32
    p = math.exp(-1.5)
    torch.testing.assert_close(found, torch.tensor([0.0, math.log(p / (1 - p))]))
