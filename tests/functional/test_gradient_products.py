"""Products of examples' gradients against one backward pass an example."""

from __future__ import annotations

import torch
from test_kronecker import gpt2, tokens

from dsel.functional.curvature import Vectors
from dsel.functional.gradient_products import GradientProducts, example_gradients
from dsel.objective.language_modeling import LanguageModeling


def by_loop(model: torch.nn.Module, batch: torch.Tensor, names: list[str]) -> Vectors:
    parameters = dict(model.named_parameters())
    found = []
    for row in batch:
        loss = LanguageModeling().token_losses(model, row[row != -100][None]).sum()
        found.append(torch.autograd.grad(loss, [parameters[name] for name in names]))
    return {name: torch.stack([each[at] for each in found]) for at, name in enumerate(names)}


def batch_of() -> torch.Tensor:
    return torch.cat([tokens(3, 9), torch.nn.functional.pad(tokens(2, 6, 2), (0, 3), value=-100)])


def test_products_and_gradients_are_those_of_a_loop() -> None:
    model, batch = gpt2(), batch_of()
    names = [name for name, _ in model.named_parameters()]
    want = by_loop(model, batch, names)
    found = example_gradients(model, LanguageModeling(), batch, names)
    for name in names:
        torch.testing.assert_close(found[name], want[name], rtol=1e-9, atol=1e-12)
    generator = torch.Generator().manual_seed(3)
    for count in (1, 4):
        vectors = {name: torch.randn(count, *p.shape, generator=generator).double() for name, p in model.named_parameters()}
        products = sum(want[name].flatten(1) @ vectors[name].flatten(1).T for name in names)
        torch.testing.assert_close(GradientProducts(vectors)(model, LanguageModeling(), batch), products, rtol=1e-9, atol=1e-10)
        some = {name: value for name, value in vectors.items() if "attn" in name}
        part = sum(want[name].flatten(1) @ vectors[name].flatten(1).T for name in some)
        torch.testing.assert_close(GradientProducts(some)(model, LanguageModeling(), batch), part, rtol=1e-9, atol=1e-10)
