"""Similarities find the tasks that are of the target's kind."""

from __future__ import annotations

import numpy as np
import pytest
from task_lab import TaskLab

from dsel.error import InputError
from dsel.estimator.gradient_cosine import GradientCosine
from dsel.estimator.representation_cosine import RepresentationCosine
from dsel.functional.unit_outputs import unit_vectors


def test_gradients_against_a_loop(tasks: TaskLab) -> None:
    """Cosines of projected mean gradients are near those of whole ones."""
    context, source, target = tasks.context(), tasks.source, tasks.target
    model = context.load(None).requires_grad_(True)
    parameters = list(model.parameters())

    def mean_gradient(pool: object) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        import torch

        from dsel.functional.log_odds import log_odds

        found = []
        for _, batch in context.objective.rows(pool.table, 24, 2048):  # type: ignore[attr-defined]
            f = log_odds(context.objective.token_losses(model, batch), context.objective.predicted(batch)).sum()
            found.append(torch.cat([g.flatten() for g in torch.autograd.grad(f, parameters)]))
        return torch.stack(found).sum(0).double().numpy()

    theirs = mean_gradient(target)
    expected = []
    for pool in source.by_task().values():
        own = mean_gradient(pool)
        expected.append(own @ theirs / np.linalg.norm(own) / np.linalg.norm(theirs))
    estimate = GradientCosine(dim=4000, kind="rademacher").fit(source, target, context)
    np.testing.assert_allclose(-estimate(np.eye(6, dtype=bool))[:, 0], expected, atol=0.08)


def test_the_noisy_groups_look_less_like_the_target(tasks: TaskLab) -> None:
    """clean_00, clean_01, clean_02, noisy_00 ..: random answers pull elsewhere."""
    losses = GradientCosine(dim=256).fit(tasks.source, tasks.target, tasks.context())(np.eye(6, dtype=bool))[:, 0]
    assert losses[:3].mean() < losses[3:].mean()


def test_vectors_do_not_hang_on_the_batch(tasks: TaskLab) -> None:
    context, pool = tasks.context(), tasks.source
    model = context.load(None)
    together = unit_vectors(model, context.objective, pool.table, 24)
    apart = np.concatenate([unit_vectors(model, context.objective, pool.table.slice(at, 1), 24) for at in range(len(pool))])
    np.testing.assert_allclose(together, apart, rtol=1e-4, atol=1e-5)
    estimate = RepresentationCosine().fit(pool, tasks.target, context)
    assert np.abs(estimate(np.eye(6, dtype=bool))).max() <= 1 + 1e-9


def test_mistakes_name_their_key() -> None:
    with pytest.raises(InputError, match=r"estimator\.kind='other'"):
        GradientCosine(kind="other")
    with pytest.raises(InputError, match=r"estimator\.dim=0"):
        GradientCosine(dim=0)
