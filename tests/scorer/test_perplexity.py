"""Perplexity against cross-entropy, document by document."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from laboratory import Lab
from made_up_corpus import TARGET_DOMAIN, documents

from dsel.pool import TOKENS
from dsel.scorer.cds import Cds
from dsel.scorer.perplexity import Perplexity

TEXTS = ["The pilot twice tows the barge.", " ".join(row["text"] for row in documents(TARGET_DOMAIN, 4, seed=2)), "a"]


def cross_entropy(model: torch.nn.Module, ids: list[int], context: int) -> float:
    """Mean over the predicted tokens, in windows of `context` predictions that share a token with the window before."""
    losses = []
    for start in range(0, len(ids) - 1, context):
        window = torch.tensor([ids[start : start + context + 1]])
        with torch.inference_mode():
            logits = model(input_ids=window[:, :-1]).logits[0].double()
        losses.append(torch.nn.functional.cross_entropy(logits, window[0, 1:], reduction="none"))
    return float(torch.cat(losses).mean())


@pytest.mark.parametrize("tuned", [True, False])
def test_equals_a_loop_over_documents(lab: Lab, tuned: bool) -> None:
    context = lab.context()
    options: dict[str, Any] = {"num_steps": 10, "every": 5, "learning_rate": 3e-3}
    model = context.tune(lab.target, 10, 8, 3e-3, 5, 2) if tuned else context.load(None)
    probe = lab.pool(TEXTS).table
    scores = Perplexity(tuned=tuned, **options).fit(lab.source, lab.target, context)(probe)
    assert lab.world.model is not None
    rows = probe[TOKENS].to_pylist()
    assert len(rows[1]) > 2 * lab.world.model.context  # several windows
    expected = [-cross_entropy(model, row, lab.world.model.context) for row in rows]
    np.testing.assert_allclose(scores[:, 0], expected, rtol=1e-5)


def test_shares_its_tuned_model_with_cds(lab: Lab) -> None:
    def tuned_models() -> set[str]:
        return {path.name for path in lab.store.root.glob("tune-*")}

    Perplexity(num_steps=5, every=1).fit(lab.source, lab.target, lab.context())
    before = tuned_models()
    Cds(num_steps=5, every=1).fit(lab.source, lab.target, lab.context())
    Perplexity(num_steps=5, every=1, tuned=False).fit(lab.source, lab.target, lab.context())
    assert tuned_models() == before
    Perplexity(num_steps=6, every=1).fit(lab.source, lab.target, lab.context())
    assert len(tuned_models()) == len(before) + 1


def test_a_document_without_text_is_not_the_easiest(lab: Lab) -> None:
    assert lab.world.tokenizer is not None
    scores = Perplexity(tuned=False).fit(lab.source, lab.target, lab.context())(lab.pool(["", *TEXTS]).table)[:, 0]
    assert scores[0] == pytest.approx(-math.log(len(lab.world.tokenizer)))
    assert scores[0] < scores[1:3].min()


def test_tuning_makes_the_target_easier(lab: Lab) -> None:
    probe = lab.pool([row["text"] for row in documents(TARGET_DOMAIN, 10, seed=3)]).table
    means = [
        Perplexity(tuned=tuned, num_steps=20, every=10, learning_rate=3e-3).fit(lab.source, lab.target, lab.context())(probe).mean()
        for tuned in (True, False)
    ]
    assert means[0] > means[1]
