"""Errors of the first-order model against finite differences and models that are linear."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from dsel.error import InputError
from dsel.functional.alignment import trainable
from dsel.functional.blocks import IGNORE
from dsel.functional.linearity import linearity_errors
from dsel.functional.log_odds import log_odds
from dsel.objective.instruction import Instruction
from dsel.objective.pairs import Pairs

DISTANCES = [0.001, 0.02, 0.1]


def make() -> tuple[torch.nn.Module, Pairs, dict[str, torch.Tensor]]:
    """A model in float64, a batch and a direction."""
    config = GPT2Config(n_embd=8, n_layer=2, n_head=2, n_positions=16, vocab_size=17, bos_token_id=0, eos_token_id=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(config).to(torch.float64).eval()
        direction = {name: torch.randn_like(p) for name, p in model.named_parameters()}
        source, target = torch.randint(1, 17, (4, 5)), torch.randint(1, 17, (4, 4))
    source[1, 3:], target[2, 3:] = IGNORE, IGNORE
    return model, Pairs(source, target), direction


def outputs(model: torch.nn.Module, batch: Pairs) -> torch.Tensor:
    return log_odds(Instruction().token_losses(model, batch), Instruction().predicted(batch))


def at(model: torch.nn.Module, batch: Pairs, direction: dict[str, torch.Tensor], step: float) -> torch.Tensor:
    moved = {name: p.detach() + step * direction[name] if name in direction else p for name, p in model.named_parameters()}
    bound = torch.nn.Module()
    bound.forward = lambda: outputs(bound.model, batch)
    bound.model = model
    with torch.no_grad():
        return torch.func.functional_call(bound, {f"model.{name}": value for name, value in moved.items()}, ()).double()


@pytest.mark.parametrize("pattern", ["", "attn"])
def test_is_the_formula_with_finite_differences(pattern: str) -> None:
    model, batch, direction = make()
    direction = {name: part for name, part in direction.items() if pattern in name}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    found = linearity_errors(model, partial(outputs, batch=batch), direction, DISTANCES)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    own = torch.cat([p.detach().flatten() for name, p in trainable(model).items() if name in direction]).norm()
    unit = float(own / torch.cat([part.flatten() for part in direction.values()]).norm())
    here, step = at(model, batch, direction, 0.0), 3e-3 * unit
    slopes = (at(model, batch, direction, step) - at(model, batch, direction, -step)) / (2 * step)
    for distance, (mine, with_gradient, without_gradient) in zip(DISTANCES, found, strict=True):
        there = at(model, batch, direction, distance * unit)
        scale = torch.maximum(here.abs(), there.abs())
        assert mine == distance
        assert with_gradient == pytest.approx(
            float(((here + distance * unit * slopes - there) / scale).square().mean()), rel=0.05, abs=1e-9
        )
        assert without_gradient == pytest.approx(float(((here - there) / scale).square().mean()), rel=1e-3)
    assert found[0].with_gradient < 0.01 * found[0].without_gradient


def test_linear_models_are_linear() -> None:
    generator = torch.Generator().manual_seed(0)
    model = torch.nn.Linear(6, 1)
    given = torch.randn(20, 6, generator=generator)
    direction = {name: torch.randn(p.shape, generator=generator) for name, p in model.named_parameters()}
    for _, with_gradient, without_gradient in linearity_errors(model, lambda some: some(given)[:, 0], direction, [0.1, 1.0]):
        assert with_gradient < 1e-6
        assert without_gradient > 1e-3


def test_nothing_moves_nothing() -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    found = linearity_errors(model, lambda some: some(torch.zeros(3, 2))[:, 0], {"weight": torch.ones(1, 2)}, [0.5])
    assert found == [(0.5, 0.0, 0.0)]
    with pytest.raises(InputError, match="the direction has length 0 over the 1 trained parameters that it names"):
        linearity_errors(model, lambda some: some(torch.zeros(3, 2))[:, 0], {"weight": torch.zeros(1, 2)}, [0.5])


def test_an_error_on_the_way_leaves_the_parameters() -> None:
    model, batch, direction = make()
    before, calls = [p.detach().clone() for p in model.parameters()], []

    def fails(some: torch.nn.Module) -> torch.Tensor:
        calls.append(1)
        if len(calls) > 1:
            raise KeyError("broken")
        return outputs(some, batch)

    with pytest.raises(KeyError):
        linearity_errors(model, fails, direction, DISTANCES)
    assert all(torch.equal(p, value) for p, value in zip(model.parameters(), before, strict=True))
