"""FLOPs of what goes through models: against torch's own counter, which sees every product of matrices."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from dsel.functional.meter import add_flops, metered

TOKENS = torch.randint(0, 300, (4, 16), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model() -> LlamaForCausalLM:
    """One that shares its embedding with its head, so that every parameter but for those of norms is in a product."""
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=300, tie_word_embeddings=True, max_position_embeddings=16, **shape))


def forward(model: LlamaForCausalLM) -> None:
    with torch.no_grad():
        model(TOKENS, use_cache=False)


def of_the_base(model: LlamaForCausalLM) -> None:
    with torch.no_grad():
        model.base_model(input_ids=TOKENS, attention_mask=torch.ones_like(TOKENS), use_cache=False)


def step(model: LlamaForCausalLM) -> None:
    model(input_ids=TOKENS, use_cache=False).logits.square().mean().backward()


def of_a_copy(model: LlamaForCausalLM) -> None:
    step(copy.deepcopy(model))


def frozen(model: LlamaForCausalLM) -> None:
    model.requires_grad_(False)(TOKENS, use_cache=False)


@pytest.mark.parametrize(("work", "passes"), [(forward, 1), (step, 3), (of_a_copy, 3), (frozen, 1)])
def test_as_torch_counts_them(work: Callable[[LlamaForCausalLM], None], passes: int, model: LlamaForCausalLM) -> None:
    torchs = FlopCounterMode(display=False)
    with metered() as ours, torchs:
        work(model)
    assert ours.flops == 2.0 * passes * sum(p.numel() for p in model.parameters()) * TOKENS.numel()
    assert ours.flops == pytest.approx(torchs.get_total_flops(), rel=0.1)  # attention counts there, norms do not


def test_a_base_model_is_one_too(model: LlamaForCausalLM) -> None:
    with metered() as ours:
        of_the_base(model)
    assert ours.flops == 2.0 * sum(p.numel() for p in model.base_model.parameters()) * TOKENS.numel()


def test_inside_of_another(model: LlamaForCausalLM) -> None:
    with metered() as outer:
        forward(model)
        with metered() as inner:
            forward(model)
            add_flops(7.0)
    forward(model)  # nobody counts
    assert inner.flops - 7 == pytest.approx((outer.flops - 7) / 2)


def test_what_fails_does_not_count_and_harms_nothing(model: LlamaForCausalLM) -> None:
    with metered() as ours:
        with pytest.raises(ValueError, match="exactly one"):
            model()
        assert ours.flops == 0
        forward(model)
    assert ours.flops > 0
