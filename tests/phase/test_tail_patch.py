"""One step on what attribution puts first, against a step by hand."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from laboratory import Lab

from dsel.error import InputError
from dsel.functional.likelihood import document_losses
from dsel.phase.attribute import Attribute, read_scores
from dsel.phase.tail_patch import TailPatch
from dsel.scorer.gradient_similarity import GradientSimilarity
from dsel.scorer.random import Random
from dsel.state import State


def attributed(lab: Lab, folder: Path, attribute: Attribute) -> State:
    folder.mkdir()
    attribute.run(lab.state, replace(lab.world, name="attribute"), folder)
    return replace(lab.state, artifacts={**lab.state.artifacts, "attribute": folder})


def patched(lab: Lab, folder: Path, attribute: Attribute, patch: TailPatch) -> dict[str, float]:
    state, out = attributed(lab, folder / "attribute", attribute), folder / "patch"
    out.mkdir()
    world = replace(lab.world, name="tail_patch")
    patch.run(state, world, out)
    return dict(patch.read(state, world, out).metrics)


def test_it_is_one_step_of_gradient_descent(lab: Lab, tmp_path: Path) -> None:
    attribute = Attribute("target", 2, scorer=GradientSimilarity(each=True), tune=lab.tune, num_explained=0)
    found = patched(lab, tmp_path, attribute, TailPatch("target", 2, top=1, learning_rate=0.05))
    model = lab.context().load(None)
    state = replace(lab.state, artifacts={"attribute": tmp_path / "attribute"})
    chosen = TailPatch("target", 2).query_pool(replace(lab.world, name="tail_patch"))
    values = read_scores(state, "attribute", lab.source, chosen, lab.world)
    falls = []
    for query in range(2):
        stepped = copy.deepcopy(model).requires_grad_(True)
        unit = lab.source.table.slice(int(values[:, query].argmax()), 1)
        losses = [lab.world.objective.token_losses(stepped, batch) for _, batch in lab.world.objective.rows(unit, 32, 32)]
        (sum(part.sum() for part in losses) / sum(int((part != 0).sum()) for part in losses)).backward()  # type: ignore[union-attr]
        asked = chosen.table.slice(query, 1)
        with torch.no_grad():
            for parameter in stepped.parameters():
                parameter -= 0.05 * parameter.grad
        (before, count), (after, _) = (document_losses([m], lab.world.objective, asked, 32) for m in (model, stepped))
        falls.append(float((before - after)[0, 0] / count[0]))
    assert found["tail_patch"] == pytest.approx(np.mean(falls), rel=1e-3)
    assert found["tail_patch"] > 0
    assert found["tail_patch"] > found["tail_patch_random"]


def test_it_leaves_the_model_as_it_was_and_is_the_same_again(lab: Lab, tmp_path: Path) -> None:
    attribute = Attribute("target", 2, scorer=Random(), tune=lab.tune, num_explained=0)
    patch = TailPatch("target", 2, top=3)
    first, second = (patched(lab, tmp_path / name, attribute, patch) for name in ("a", "b") if (tmp_path / name).mkdir() is None)
    assert first == second


@pytest.mark.parametrize("options", [{"top": 0}, {"learning_rate": 0.0}])
def test_options_out_of_range_are_errors(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        TailPatch(**options)  # type: ignore[arg-type]


def test_without_an_attribution_it_is_an_error(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="looks at the scores of phase attribute, which has not run"):
        TailPatch("target").run(lab.state, replace(lab.world, name="tail_patch"), tmp_path)
