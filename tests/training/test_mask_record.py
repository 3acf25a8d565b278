"""What online selection did is written down, and steps that drop everything are no steps."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from laboratory import Lab
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from dsel.build import build
from dsel.error import InputError
from dsel.functional.alignment_histogram import EDGES
from dsel.model.seq2seq import Seq2Seq
from dsel.objective.blocks import Blocks
from dsel.objective.pairs import Pairs
from dsel.objective.translation import Translation
from dsel.online.gradient_mask import GradientMask
from dsel.protocol import OnlineStep, Weigh
from dsel.training.fit import Fitted, Plan, fit
from dsel.training.mask_record import MaskRecord
from dsel.training.step import Step


@dataclass(frozen=True)
class Sometimes:
    """Keeps everything, or nothing, by the step's number."""

    dropped: range
    clean_share = 0.0
    normaliser = "all"

    def begin(self, seed: int) -> Weigh:
        def weigh(step: OnlineStep) -> torch.Tensor:
            return torch.full((len(step.predicted),), float(step.number not in self.dropped))

        return weigh


def train(lab: Lab, online: Any, steps: int, rate: float = 0.1) -> tuple[torch.nn.Module, Fitted]:
    model = copy.deepcopy(lab.context().load(None)).requires_grad_(True)
    batches = Blocks({"target": (lab.target, 1.0)}, 32, 3, seed=0)
    trainer = build({"_target_": "pytorch_lightning.Trainer", "_partial_": True, "accelerator": "cpu", "devices": 1})
    plan, optimizer = Plan(steps, schedule="constant", every=1), partial(torch.optim.SGD, lr=rate)
    return model, fit(model, lab.world.objective, batches, plan, optimizer, trainer, lambda _: {}, "test", 0, online=online, clean=batches)


def test_a_step_that_drops_everything_is_skipped(lab: Lab) -> None:
    """No weight moves in it, batches and later steps are what they are, and the curve goes on."""
    model, fitted = train(lab, Sometimes(range(2)), 2)
    start = lab.context().load(None)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), start.parameters(), strict=True))
    assert fitted.record.metrics() == {"masked_share": 1.0, "skipped_steps": 2.0}
    assert [row["step"] for row in fitted.curve] == [0, 1, 2]
    assert np.isfinite([row["train_loss"] for row in fitted.curve[1:]]).all()
    model, fitted = train(lab, Sometimes(range(1, 3)), 3)
    assert [row["masked_share"] for row in fitted.record.rows] == [0, 1, 1]
    once, _ = train(lab, Sometimes(range(0)), 1)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), once.parameters(), strict=True))
    _, fitted = train(lab, Sometimes(range(1, 3)), 4)
    assert [row["step"] for row in fitted.record.rows] == [0, 1, 2, 3]


def test_many_skipped_steps_are_said_once(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dsel"):
        train(lab, Sometimes(range(2, 12)), 14)
        assert caplog.messages == [
            "online: 10 of 12 steps dropped all their tokens, and were skipped (the last: step 11); raise batch_size, or wrap the selector "
            "with online=schedule and a later online.start"
        ]
        caplog.clear()
        train(lab, Sometimes(range(2, 9)), 14)
        assert not caplog.messages


def test_gradients_that_are_not_finite_are_an_error(lab: Lab) -> None:
    with pytest.raises(InputError, match=r"training: (the loss|a gradient's alignment) is not finite at step [1-3]; lower optimizer.lr"):
        train(lab, GradientMask(method="ghost"), 6, rate=1e30)


def test_matches_with_noise_are_those_of_scikit_learn() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Seq2Seq(num_layers=1, dim=16, ffn_dim=32, num_heads=2, context=8, dropout=0.0).build(30)
        source, target, alignment = torch.randint(2, 30, (40, 4)), torch.randint(2, 30, (40, 5)), torch.randn(40)
    noisy = torch.arange(40) % 3 == 0
    step = Step(model, Translation(), Pairs(source, target, noisy), None, 7)
    step.alignment = alignment
    weights = (alignment > 0).float()
    record = MaskRecord()
    record.add(step, weights, 0.5)
    (row,) = record.rows
    dropped = (weights == 0).numpy()
    assert row["masked_share"] == pytest.approx(dropped.mean())
    assert row["mask_auc"] == pytest.approx(roc_auc_score(noisy.numpy(), -alignment.numpy()))
    assert row["mask_precision"] == pytest.approx(precision_score(noisy.numpy(), dropped))  # pairs are of one length
    assert row["mask_recall"] == pytest.approx(recall_score(noisy.numpy(), dropped))
    assert sum(row["aligned"]) == 26
    assert sum(row["aligned_noise"]) == 14
    below = int(np.searchsorted(EDGES, 0))
    assert sum(row["aligned"][:below]) + sum(row["aligned_noise"][:below]) == int((alignment < 0).sum())
    assert record.metrics()["mask_auc"] == row["mask_auc"]
