"""The transformer classifier with each kind of encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from laboratory import Lab
from made_up_corpus import TARGET_DOMAIN, documents
from sklearn.metrics import roc_auc_score
from transformers import BertModel

from dsel.error import InputError
from dsel.pool import PLANTED
from dsel.scorer.domain_encoder import DomainEncoder, EncoderLogOdds

QUICK = {"num_steps": 25, "batch_size": 8, "learning_rate": 3e-3, "max_length": 32}


@pytest.mark.parametrize("encoder", ["pretrained", "scratch", "folder"])
def test_tells_the_target_apart(lab: Lab, checkpoint: Path, encoder: str) -> None:
    name = str(checkpoint) if encoder == "folder" else encoder
    fitted = DomainEncoder(encoder=name, **QUICK).fit(lab.source, lab.target, lab.context())  # type: ignore[arg-type]
    assert roc_auc_score(lab.source.table[PLANTED].to_numpy(), fitted(lab.source.table)[:, 0]) > 0.8


@pytest.mark.parametrize("encoder", ["pretrained", "folder"])
def test_a_linear_layer_on_a_frozen_encoder_learns(lab: Lab, checkpoint: Path, encoder: str) -> None:
    name, options = str(checkpoint) if encoder == "folder" else encoder, QUICK | {"learning_rate": 0.1, "num_steps": 60}
    fitted = DomainEncoder(encoder=name, frozen=True, **options).fit(lab.source, lab.target, lab.context())  # type: ignore[arg-type]
    assert roc_auc_score(lab.source.table[PLANTED].to_numpy(), fitted(lab.source.table)[:, 0]) > 0.8


def test_frozen_keeps_the_encoder_as_it_is(lab: Lab, checkpoint: Path) -> None:
    kept = DomainEncoder(encoder=str(checkpoint), frozen=True, **QUICK).fit(lab.source, lab.target, lab.context())  # type: ignore[arg-type]
    moved = DomainEncoder(encoder=str(checkpoint), **QUICK).fit(lab.source, lab.target, lab.context())  # type: ignore[arg-type]
    assert isinstance(kept, EncoderLogOdds)
    assert isinstance(moved, EncoderLogOdds)
    stored = BertModel.from_pretrained(checkpoint).state_dict()
    assert all(torch.equal(value, stored[key]) for key, value in kept.encoder.model.state_dict().items())
    assert not all(torch.equal(value, stored[key]) for key, value in moved.encoder.model.state_dict().items())


def test_scores_equal_a_loop_over_documents(lab: Lab) -> None:
    """No padding, one document at a time, cut at `max_length`, mean over its tokens."""
    fitted = DomainEncoder(encoder="pretrained", **QUICK).fit(lab.source, lab.target, lab.context())  # type: ignore[arg-type]
    assert isinstance(fitted, EncoderLogOdds)
    pool = lab.pool([row["text"] for domain in ("kitchen", TARGET_DOMAIN) for row in documents(domain, 6, seed=6)])
    expected = []
    for ids in pool.table["dsel_tokens"].to_pylist():
        with torch.inference_mode():
            hidden = fitted.encoder.model(input_ids=torch.tensor([ids[:32]])).last_hidden_state[0]  # type: ignore[operator]
            expected.append(float(fitted.head(hidden.mean(0))))
    assert max(len(ids) for ids in pool.table["dsel_tokens"].to_pylist()) > 32
    np.testing.assert_allclose(fitted(pool.table)[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_a_wrong_path_is_named(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"scorer\.encoder={tmp_path}/nothing: not 'pretrained'"):
        DomainEncoder(encoder=f"{tmp_path}/nothing", **QUICK).fit(lab.source, lab.target, lab.context())  # type: ignore[arg-type]
