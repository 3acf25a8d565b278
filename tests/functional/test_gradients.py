"""Flat gradients and their products against plain autograd and algebra."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dsel.functional.gradients import mean_gradient, orthogonal_alignment
from dsel.objective.language_modeling import LanguageModeling

vectors = arrays(np.float64, 6, elements=st.floats(-10, 10, width=32))


@given(own=vectors, tuned=vectors, held_out=vectors)
def test_alignment_is_the_formula(own: np.ndarray, tuned: np.ndarray, held_out: np.ndarray) -> None:
    found = orthogonal_alignment(*(torch.from_numpy(v) for v in (own, tuned, held_out)))
    size = np.linalg.norm(tuned)
    unit = tuned / size if size > 1e-6 else np.zeros(6)
    rest = own - (own @ unit) * unit
    if np.linalg.norm(rest) < 1e-4 or 0 < size <= 1e-6:
        assert np.isfinite(found)
        return
    np.testing.assert_allclose(found, rest @ held_out / np.linalg.norm(rest), rtol=1e-6, atol=1e-8)


def test_nothing_is_left_of_a_parallel_gradient() -> None:
    tuned = torch.tensor([1.0, 2.0, -3.0])
    assert orthogonal_alignment(2 * tuned, tuned, torch.tensor([5.0, 0.0, 0.0])) == 0.0
    assert orthogonal_alignment(torch.zeros(3), tuned, torch.ones(3)) == 0.0


@given(rows=st.integers(1, 9), rows_per_batch=st.integers(1, 4))
def test_mean_gradient_equals_one_backward_pass(rows: int, rows_per_batch: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    model = torch.nn.Sequential(torch.nn.Embedding(11, 4), torch.nn.Linear(4, 11))
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    model[1].bias.requires_grad_(False)

    class Plain(LanguageModeling):
        def token_losses(self, model: torch.nn.Module, batch: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(model(batch[:, :-1]).transpose(1, 2), batch[:, 1:], reduction="none")

    tokens = torch.randint(0, 11, (rows, 6), generator=generator)
    found = mean_gradient(model, Plain(), torch.split(tokens, rows_per_batch))
    Plain().token_losses(model, tokens).mean().backward()
    trainable = [p for p in model.parameters() if p.requires_grad]
    torch.testing.assert_close(found, torch.cat([p.grad.flatten() for p in trainable]), rtol=1e-4, atol=1e-6)  # type: ignore[union-attr]
