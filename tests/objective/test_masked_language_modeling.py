"""Losses of hidden tokens against all of a model's scores; and which tokens are hidden."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM, RobertaConfig, RobertaForMaskedLM

from dsel.error import InputError
from dsel.functional.blocks import IGNORE
from dsel.model.masked_lm import MaskedLM
from dsel.objective.masked_language_modeling import MaskedLanguageModeling

VOCABULARY, MASK = 50, 2
SHAPE = {
    "vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 40, "mask_token_id": MASK, "initializer_range": 0.3,
}  # fmt: skip


@pytest.fixture(scope="module", params=["bert", "roberta", "ours"])
def model(request: pytest.FixtureRequest) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if request.param == "ours":
            return MaskedLM(num_layers=1, dim=16, num_heads=2, context=32).build(VOCABULARY).eval()
        made = BertForMaskedLM(BertConfig(**SHAPE)) if request.param == "bert" else RobertaForMaskedLM(RobertaConfig(**SHAPE))
        return made.eval()


def batch_of(lengths: list[int], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    batch = torch.randint(5, VOCABULARY, (len(lengths), max(lengths)), generator=generator)
    return batch.masked_fill(torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None], IGNORE)


def shown_to(model: torch.nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the model was given (batch, time), and the losses."""
    seen = {}
    handle = model.base_model.register_forward_pre_hook(lambda _, __, given: seen.update(given), with_kwargs=True)  # type: ignore[operator,union-attr]
    with torch.no_grad():
        losses = MaskedLanguageModeling().token_losses(model, batch)
    handle.remove()
    assert torch.equal(seen["attention_mask"].bool(), batch != IGNORE)
    return seen["input_ids"], losses


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_losses_are_those_of_all_scores(model: torch.nn.Module, smoothing: float) -> None:
    """Row by row, without padding, under what the model was shown."""
    batch = batch_of([20, 7, 30, 1])
    shown, _ = shown_to(model, batch)
    hidden = MaskedLanguageModeling().predicted(batch)
    with torch.inference_mode():
        losses = MaskedLanguageModeling().token_losses(model, batch, smoothing)
        for row, tokens in enumerate(batch):
            length = int((tokens != IGNORE).sum())
            scores = model(input_ids=shown[row : row + 1, :length]).logits[0].double().log_softmax(-1)
            right = -scores.gather(1, tokens[:length, None])[:, 0]
            expected = (1 - smoothing) * right - smoothing * scores.mean(-1)
            torch.testing.assert_close(losses[row, :length], (expected * hidden[row, :length]).float(), rtol=1e-4, atol=1e-4)
    assert losses.shape == batch.shape
    assert losses[~hidden].eq(0).all()


def test_gradients_are_those_of_all_scores(model: torch.nn.Module) -> None:
    batch = batch_of([20, 20])
    shown, _ = shown_to(model, batch)
    hidden, parameters = MaskedLanguageModeling().predicted(batch), list(model.parameters())
    ours = MaskedLanguageModeling().token_losses(model, batch).sum()
    logits = model(input_ids=shown, attention_mask=torch.ones_like(shown)).logits
    theirs = torch.nn.functional.cross_entropy(logits[hidden], batch[hidden], reduction="sum")
    for one, other in zip(
        *(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True) for loss in (ours, theirs)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_the_share_that_is_hidden() -> None:
    batch = batch_of([60] * 200, 1)
    hidden = MaskedLanguageModeling().predicted(batch)
    assert float(hidden.float().mean()) == pytest.approx(0.15, abs=0.015)
    assert hidden.any(1).all()
    by_place = hidden.float().mean(0)
    assert 0.04 < float(by_place.min()) < float(by_place.max()) < 0.3
    half = MaskedLanguageModeling(hidden=0.5).predicted(batch)
    assert float(half.float().mean()) == pytest.approx(0.5, abs=0.02)


def test_one_token_of_each_row_at_least() -> None:
    for seed in range(5):
        batch = batch_of([1, 2, 3, 25, 1], seed)
        hidden = MaskedLanguageModeling(hidden=0.0).predicted(batch)
        assert hidden.sum(1).tolist() == [1] * 5
        assert not (hidden & (batch == IGNORE)).any()


def test_the_mask_hangs_on_the_batch_alone() -> None:
    batch, before = batch_of([60] * 8), torch.get_rng_state()
    model = BertForMaskedLM(BertConfig(**{**SHAPE, "max_position_embeddings": 60})).eval()
    before = torch.get_rng_state()
    one, losses = shown_to(model, batch)
    two, again = shown_to(model, batch.clone())
    assert torch.equal(one, two)
    assert torch.equal(losses, again)
    assert torch.equal(torch.get_rng_state(), before)
    other = batch.flip(0)
    assert not torch.equal(MaskedLanguageModeling().predicted(other), MaskedLanguageModeling().predicted(batch))
    assert not torch.equal(MaskedLanguageModeling().predicted(other), MaskedLanguageModeling().predicted(batch).flip(0))


def test_eight_of_ten_are_shown_as_a_mask() -> None:
    """One as any other token, one as it is; what is not hidden is shown as it is."""
    batch = batch_of([60] * 300, 2)
    model = BertForMaskedLM(BertConfig(**{**SHAPE, "num_hidden_layers": 1, "max_position_embeddings": 60})).eval()
    shown, _ = shown_to(model, batch)
    hidden = MaskedLanguageModeling().predicted(batch)
    assert torch.equal(shown[~hidden], batch[~hidden])
    masked, same = shown[hidden] == MASK, shown[hidden] == batch[hidden]
    assert float(masked.float().mean()) == pytest.approx(0.8, abs=0.03)
    assert float(same.float().mean()) == pytest.approx(0.1, abs=0.03)
    others = shown[hidden][~masked & ~same]
    assert len(others.unique()) > 0.9 * VOCABULARY
    assert 0 <= int(others.min()) <= int(others.max()) < VOCABULARY


def test_a_model_without_a_known_head() -> None:
    model = DistilBertForMaskedLM(DistilBertConfig(vocab_size=50, dim=16, n_layers=1, n_heads=2, hidden_dim=32, mask_token_id=2))
    with pytest.raises(InputError, match="DistilBertForMaskedLM has no head of tokens; give model=masked_lm"):
        MaskedLanguageModeling().token_losses(model, batch_of([9, 4]))


def test_a_model_without_a_mask_is_named() -> None:
    model = BertForMaskedLM(BertConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8))
    with pytest.raises(InputError, match=r"config has mask_token_id=None; write it into its config\.json"):
        MaskedLanguageModeling().token_losses(model, torch.ones(1, 5, dtype=torch.long))
