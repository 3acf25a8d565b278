"""TracIn against plain autograd at each snapshot of a training."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from laboratory import Lab
from test_gradient_similarity import Floats, Loops, assert_near, num_predicted, of_lengths

from dsel.build import build
from dsel.error import InputError
from dsel.phase.score import passes_of
from dsel.phase.train import Train
from dsel.scorer.gradient_similarity import GradientSimilarity
from dsel.scorer.less import Less
from dsel.scorer.tracin import TracIn

TOTAL, WARMUP, RATE = 7, 2, 1e-2


def trained(lab: Lab, folder: Path, name: str = "early", **options: Any) -> Lab:
    """The lab after a phase of few steps, of which snapshots are kept, as the yaml says it."""
    small = {"total_steps": TOTAL, "warmup": WARMUP, "every": TOTAL, "schedule": "cosine", "snapshots": 3}
    phase: Train = build({**lab.config["phases"]["pretrain"], **small, **options})
    world = replace(lab.world, name=name)
    phase.run(lab.state, world, folder)
    return replace(lab, state=phase.read(lab.state, world, folder))


def snapshot_folders(lab: Lab, name: str | None = None) -> list[Path]:
    folder = lab.state.checkpoint_of(name)
    assert folder is not None
    return sorted((folder / "snapshots").iterdir())


def learning_rates() -> list[float]:
    """Means over steps 0-1, 2-4 and 5-6 of a warm-up of two steps and a cosine that ends at a tenth."""
    done = [(step - WARMUP) / (TOTAL - WARMUP) for step in range(TOTAL)]
    rates = [RATE * (0.1 + 0.9 * (1 + math.cos(math.pi * each)) / 2) for each in done]
    rates[:WARMUP] = [RATE / 2, RATE]
    return [float(np.mean(rates[first:last])) for first, last in ((0, 2), (2, 5), (5, 7))]


@pytest.fixture(scope="module")
def early(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return trained(lab, tmp_path_factory.mktemp("early"))


@pytest.mark.parametrize("pattern", [None, r"attn\.c_proj|wte"])
def test_equals_a_loop_over_snapshots(early: Lab, pattern: str | None) -> None:
    probe, target = of_lengths(early.source, 2, 1), of_lengths(early.target, 2, 1)
    places, rates = snapshot_folders(early), learning_rates()
    assert [int(place.name) for place in places] == [2, 5, 7]
    want: Floats = np.zeros((3, 3))
    for place, rate in zip(places, rates, strict=True):
        loops = Loops.of(early, pattern or ".", place)
        want += rate * loops.gradients(probe) @ loops.gradients(target, is_mean=True).T
    found = TracIn(parameters=pattern, each=True, per_token=False).fit(early.source, target, early.context())(probe.table)
    assert_near(found, want)
    whole = TracIn(phase="early", parameters=pattern).fit(early.source, target, early.context())(probe.table)
    assert_near(whole, want.mean(1, keepdims=True) / num_predicted(probe)[:, None])


def test_without_snapshots_it_is_the_inner_product_at_the_end(early: Lab) -> None:
    """At a rate of 1."""
    probe = of_lengths(early.source, 2, 1).table
    found = TracIn(phase="pretrain", each=True).fit(early.source, early.target, early.context())(probe)
    plain = GradientSimilarity(checkpoint="pretrain", each=True).fit(early.source, early.target, early.context())(probe)
    assert_near(found, plain, 1e-5)


@pytest.mark.parametrize("scorer", [TracIn(), Less(dim=64)], ids=["tracin", "less"])
def test_it_costs_a_pass_forward_and_back_for_each_snapshot(early: Lab, scorer: TracIn | Less) -> None:
    fitted = scorer.fit(early.source, early.target, early.context())
    assert passes_of(scorer, fitted) == 9.0  # three snapshots
    assert passes_of(scorer, lambda table: np.zeros((len(table), 1))) == 3.0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phase": "nobody"}, r"phases\.score: .*phase 'nobody'.*trained so far: pretrain, early"),
        ({"parameters": "nothing"}, r"scorer\.parameters=nothing: is found in no trained parameter's name"),
    ],
)
def test_wrong_options_are_named(early: Lab, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TracIn(**options).fit(early.source, early.target, early.context())
