"""Online selection: weights of a step, and the step that they make, against the loop over examples."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from dsel.error import InputError
from dsel.functional.alignment import by_loop
from dsel.functional.blocks import IGNORE
from dsel.model.seq2seq import Seq2Seq
from dsel.objective.pairs import Pairs
from dsel.objective.translation import Translation
from dsel.online.gradient_mask import GradientMask
from dsel.online.loss_mask import LossMask
from dsel.online.random_mask import RandomMask
from dsel.online.schedule import Schedule
from dsel.training.step import EXAMPLE_METHODS, TOKEN_METHODS, Step

VOCABULARY = 30


def make_batch(rows: int, seed: int) -> Pairs:
    generator = torch.Generator().manual_seed(seed)
    source, target = (torch.randint(2, VOCABULARY, (rows, 6), generator=generator) for _ in range(2))
    target[:, -1], target[:, 0] = 1, 1
    target[1, 4:] = IGNORE  # shorter
    return Pairs(source, target)


@pytest.fixture
def model() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Seq2Seq(num_layers=1, dim=16, ffn_dim=32, num_heads=2, context=8, dropout=0.0).build(VOCABULARY).train()


def make_step(model: torch.nn.Module, smoothing: float = 0.1) -> Step:
    return Step(model, Translation(), make_batch(6, 1), make_batch(3, 2), 0, smoothing)


@pytest.mark.parametrize("per_token", [False, True])
def test_methods_agree(model: torch.nn.Module, per_token: bool) -> None:
    expected = make_step(model).align("loop", per_token)
    for method in TOKEN_METHODS if per_token else EXAMPLE_METHODS:
        close = {"rtol": 0.1, "atol": 1e-2} if method == "finite_difference" else {"rtol": 1e-3, "atol": 1e-4}
        torch.testing.assert_close(make_step(model).align(method, per_token), expected, **close)


@pytest.mark.parametrize("method", ["ghost", "jvp", "loop"])
def test_the_gradient_is_that_of_the_weighted_loss(model: torch.nn.Module, method: str) -> None:
    step = make_step(model)
    weights = (step.align(method, per_token=False) > 0).float()
    assert 0 < weights.sum() < len(weights)
    loss = step.loss(weights, step.predicted.sum())
    loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    plain = copy.deepcopy(model)
    plain.zero_grad()
    losses = Translation().token_losses(plain, step.batch, 0.1)
    expected = (losses.sum(1) * weights).sum() / step.predicted.sum()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    for name, parameter in plain.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_a_mask_keeps_what_points_along_and_relu_weighs_it(model: torch.nn.Module) -> None:
    alignment = make_step(model).align("loop", per_token=False)
    mask = GradientMask(method="ghost").begin(0)(make_step(model))
    assert torch.equal(mask, (alignment > 0).float())
    relu = GradientMask(method="ghost", weight="relu").begin(0)(make_step(model))
    torch.testing.assert_close(relu, alignment.clamp_min(0) * len(alignment) / alignment.clamp_min(0).sum(), rtol=1e-3, atol=1e-4)
    tokens = GradientMask(method="jvp", level="token").begin(0)(make_step(model))
    assert tokens.shape == make_step(model).predicted.shape
    assert not tokens[~make_step(model).predicted].any()


def test_a_running_mean_of_the_clean_gradient(model: torch.nn.Module) -> None:
    def aligned(step: Step, clean: Pairs, other: Pairs, share: float) -> torch.Tensor:
        parts = [Step(model, Translation(), step.batch, c, 0).align("loop", per_token=False) for c in (clean, other)]
        return share * parts[0] + (1 - share) * parts[1]

    first, second = make_batch(3, 2), make_batch(3, 7)
    weigh = GradientMask(method="ghost", weight="relu", momentum=0.75).begin(0)
    weigh(Step(model, Translation(), make_batch(6, 1), first, 0))
    step = Step(model, Translation(), make_batch(6, 1), second, 1)
    weights, expected = weigh(step), aligned(step, first, second, 0.75).clamp_min(0)
    torch.testing.assert_close(weights, expected * len(expected) / expected.sum(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("level", ["example", "token"])
def test_along_the_step_that_adam_would_take(model: torch.nn.Module, level: str) -> None:
    """After some steps: over the cross attention only, each parameter's part divided by Adam's own root of its mean square."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, betas=(0.9, 0.95))
    for _ in range(3):
        optimizer.zero_grad()
        Translation().token_losses(model, make_batch(6, 5)).sum().backward()
        optimizer.step()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    clean = Step(model, Translation(), make_batch(6, 1), make_batch(3, 2), 3, 0.1).clean_gradient()
    expected = {}
    for name, parameter in model.named_parameters():
        if "encoder_attn" in name and parameter.requires_grad:
            state = optimizer.state[parameter]
            expected[name] = clean[name] / ((state["exp_avg_sq"] / (1 - 0.95**3)).sqrt() + 1e-8)
    losses = Translation().token_losses(model, make_batch(6, 1), 0.1)
    products = by_loop(model, losses if level == "token" else losses.sum(1), expected)

    step = Step(model, Translation(), make_batch(6, 1), make_batch(3, 2), 3, 0.1, optimizer)
    weigh = GradientMask(level, precondition="adam", parameters="encoder_attn").begin(0)
    assert torch.equal(weigh(step).bool(), (products > 0) & (step.predicted if level == "token" else torch.tensor(True)))
    assert step.alignment is not None
    torch.testing.assert_close(step.alignment, products.sum(1) if level == "token" else products, rtol=1e-3, atol=1e-3)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_what_adam_and_names_want(model: torch.nn.Module) -> None:
    with pytest.raises(InputError, match=r"online.parameters=cross_attn: no parameter's name has it; they are model.shared.weight, "):
        GradientMask(parameters="cross_attn").begin(0)(make_step(model))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    Translation().token_losses(model, make_batch(6, 5)).sum().backward()
    optimizer.step()
    step = Step(model, Translation(), make_batch(6, 1), make_batch(3, 2), 0, 0.1, optimizer)
    with pytest.raises(InputError, match=r"online.precondition=adam: SGD keeps no mean squares; set optimizer=adamw"):
        GradientMask(method="ghost", precondition="adam").begin(0)(step)


def test_the_cheapest_method_leaves_no_trace(model: torch.nn.Module) -> None:
    before, state = {n: p.detach().clone() for n, p in model.named_parameters()}, torch.random.get_rng_state()
    assert make_step(model).cheapest(per_token=False) in ("ghost", "jvp")
    assert make_step(model).cheapest(per_token=True) in ("jvp", "double_backward")
    assert all(p.grad is None and torch.equal(p, before[n]) for n, p in model.named_parameters())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_random_and_loss_masks_drop_their_rate(model: torch.nn.Module) -> None:
    weigh = RandomMask(rate=0.5).begin(0)
    drawn = torch.stack([weigh(make_step(model)) for _ in range(200)])
    assert abs(float(drawn.mean()) - 0.5) < 0.05
    assert torch.equal(RandomMask(rate=0.5).begin(0)(make_step(model)), drawn[0])
    step = make_step(model)
    means = step.losses.sum(1) / step.predicted.sum(1)
    weights = LossMask(rate=0.34).begin(0)(step)
    assert weights.sum() == 4
    assert means[weights == 0].min() > means[weights == 1].max()


def test_a_schedule(model: torch.nn.Module) -> None:
    weigh = Schedule(RandomMask(rate=0.9), start=2, end=8, every=3).begin(0)
    chosen = []
    for number in range(10):
        step = Step(model, Translation(), make_batch(6, 1), None, number)
        chosen.append(bool((weigh(step) < 1).any()))
    assert [number for number, is_chosen in enumerate(chosen) if is_chosen] == [2, 5]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GradientMask(level="word"), "online.level=word: must be one of example, token"),
        (lambda: GradientMask(clean_share=0), "online.clean_share=0: must be above 0"),
        (lambda: GradientMask(momentum=1), "online.momentum=1: must be at least 0 and below 1"),
        (lambda: GradientMask(precondition="sgd"), "online.precondition=sgd: must be null or adam"),
        (lambda: RandomMask(rate=1), "online.rate=1: must be at least 0 and below 1"),
        (lambda: Schedule(RandomMask(), every=0), "online.every=0: must be at least 1"),
    ],
)
def test_bad_options(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_a_method_that_is_none(model: torch.nn.Module) -> None:
    with pytest.raises(InputError, match=r"online.method=ghost: for tokens it is one of jvp"):
        make_step(model).align("ghost", per_token=True)
