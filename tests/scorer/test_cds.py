"""CDS against a loop over tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from laboratory import Lab
from made_up_corpus import TARGET_DOMAIN, documents

from dsel.scorer.cds import Cds, LossDifference

SHORT, LONG = "The pilot twice tows the barge.", " ".join(row["text"] for row in documents(TARGET_DOMAIN, 4, seed=2))


def mean_nll(model: torch.nn.Module, ids: list[int], context: int) -> float:
    """Windows of `context` predictions that share one token with the window before; all predictions count alike."""
    total, predicted = 0.0, 0
    for start in range(0, len(ids) - 1, context):
        window = ids[start : start + context + 1]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([window[:-1]])).logits[0]
        log_p = torch.log_softmax(logits.double(), dim=-1)
        for place, token in enumerate(window[1:]):
            total -= float(log_p[place, token])
            predicted += 1
    assert predicted == len(ids) - 1
    return total / predicted


def test_equals_a_loop_over_tokens(lab: Lab) -> None:
    scorer, context = Cds(num_steps=10, every=5, learning_rate=3e-3), lab.context()
    fitted = scorer.fit(lab.source, lab.target, context)
    assert isinstance(fitted, LossDifference)
    assert lab.world.tokenizer is not None
    assert lab.world.model is not None
    start = lab.world.tokenizer.bos_token_id
    ids = [[start, *lab.world.tokenizer(text, add_special_tokens=False)["input_ids"]] for text in (SHORT, LONG)]
    length = lab.world.model.context
    assert len(ids[0]) - 1 < 2 * length < len(ids[1]) - 1  # the long one needs several windows
    general, tuned = context.load(None), fitted.tuned
    expected = [mean_nll(general, row, length) - mean_nll(tuned, row, length) for row in ids]
    np.testing.assert_allclose(fitted(lab.pool([SHORT, LONG]).table)[:, 0], expected, rtol=1e-5, atol=1e-6)


def test_what_the_tuned_model_finds_easier_scores_higher(lab: Lab) -> None:
    """The released code keeps the lowest of NLL(tuned) - NLL(general); ours is its negative."""
    fitted = Cds(num_steps=20, every=10, learning_rate=3e-3).fit(lab.source, lab.target, lab.context())
    swapped = LossDifference(fitted.tuned, fitted.general, fitted.objective, fitted.context, 2048)  # type: ignore[attr-defined]
    probe = lab.pool([row["text"] for domain in (TARGET_DOMAIN, "harbour") for row in documents(domain, 10, seed=3)]).table
    scores = fitted(probe)[:, 0]
    assert scores[:10].mean() > 0
    assert scores[:10].mean() > scores[10:].mean()
    np.testing.assert_allclose(swapped(probe)[:, 0], -scores, rtol=1e-5)


def test_a_document_without_text_scores_zero(lab: Lab) -> None:
    fitted = Cds(num_steps=2, every=1).fit(lab.source, lab.target, lab.context())
    assert fitted(lab.pool(["", SHORT]).table)[0, 0] == 0


def test_the_tuned_model_is_computed_once_for_equal_questions(lab: Lab) -> None:
    before = len(list(lab.store.root.glob("tune-*")))
    for num_steps in (3, 3, 4):
        Cds(num_steps=num_steps, every=1).fit(lab.source, lab.target, lab.context())
    assert len(list(lab.store.root.glob("tune-*"))) == before + 2


@pytest.mark.parametrize("size", [1, 33, 4096])
def test_tokens_per_batch_changes_nothing(lab: Lab, size: int) -> None:
    base = Cds(num_steps=3, every=1).fit(lab.source, lab.target, lab.context())
    other = Cds(num_steps=3, every=1, tokens_per_batch=size).fit(lab.source, lab.target, lab.context())
    probe = lab.pool([SHORT, LONG, "a"]).table
    np.testing.assert_allclose(other(probe), base(probe), rtol=1e-5, atol=1e-6)
