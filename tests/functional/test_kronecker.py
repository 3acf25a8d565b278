"""K-FAC and EK-FAC against blocks of the Gauss-Newton matrix written out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from two_phase_toy import Points, Pointwise, Toy

from dsel.error import InputError
from dsel.functional.curvature import TrainingLoss, Vectors
from dsel.functional.gradient_products import GradientProducts, example_gradients, projected_gradients
from dsel.functional.inverse_curvature import Dense
from dsel.functional.kronecker import Factors, Kronecker, fit_factors
from dsel.functional.tracked import Tracked, only_trained, tracked_layers
from dsel.objective.language_modeling import LanguageModeling


def gpt2(seed: int = 0, **options: int) -> GPT2LMHeadModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sizes = {"n_layer": 1, "n_embd": 8, "n_head": 2, "n_positions": 12, "vocab_size": 11, "bos_token_id": 0, "eos_token_id": 0}
        config = GPT2Config(**sizes | options, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
        model = GPT2LMHeadModel(config).double().eval()
        for name, p in model.named_parameters():
            torch.nn.init.normal_(p, 1.0 if "ln" in name and "weight" in name else 0.0, 0.3)
        return model


def tokens(count: int, length: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(11, (count, length), generator=torch.Generator().manual_seed(seed))


def random_vectors(names: list[str], model: torch.nn.Module, count: int = 3) -> Vectors:
    generator, parameters = torch.Generator().manual_seed(5), dict(model.named_parameters())
    return {name: torch.randn(count, *parameters[name].shape, generator=generator).double() for name in names}


def flat(vectors: Vectors, names: list[str]) -> torch.Tensor:
    return torch.cat([vectors[name].flatten(1) for name in names], 1)


def correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])


@pytest.mark.parametrize("is_corrected", [False, True])
def test_one_linear_layer_under_squared_errors_is_exact(is_corrected: bool) -> None:
    """Its curvature is a Kronecker product."""
    generator = torch.Generator().manual_seed(0)
    batch = Points(torch.randn(30, 4, generator=generator).double(), torch.randn(30, 1, generator=generator).double())
    with torch.random.fork_rng():
        model = torch.nn.Linear(4, 1).double()
    loss = TrainingLoss(model, Pointwise(), [batch])
    layers, rest = tracked_layers(model)
    inverse = Kronecker(fit_factors(loss, layers, "exact", 0, is_corrected), lambda name, mean: 0.03)
    vectors = random_vectors(["weight", "bias"], model)
    want = Dense(loss, {"weight": 0.03, "bias": 0.03}, "gauss_newton").solve(vectors)
    torch.testing.assert_close(flat(inverse.solve(vectors), ["weight", "bias"]), flat(want, ["weight", "bias"]), rtol=1e-9, atol=1e-12)
    assert rest == []


class Softmaxed(torch.nn.Module):
    """One linear layer whose outputs do not hang on its inputs much: all its softmaxes are alike."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)
        torch.nn.init.zeros_(self.layer.weight)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.layer(inputs)
        return outputs


def test_one_linear_layer_under_cross_entropy_is_exact_where_all_probabilities_are_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    batch = Points(torch.randn(30, 4, generator=generator).double(), torch.randint(3, (30, 1), generator=generator))
    with torch.random.fork_rng():
        model = Softmaxed().double()
    loss, (layers, _) = TrainingLoss(model, Pointwise(), [batch]), tracked_layers(model)
    inverse = Kronecker(fit_factors(loss, layers, "exact", 0), lambda name, mean: 0.03)
    names = ["layer.weight", "layer.bias"]
    vectors = random_vectors(names, model)
    want = Dense(loss, dict.fromkeys(names, 0.03), "gauss_newton").solve(vectors)
    torch.testing.assert_close(flat(inverse.solve(vectors), names), flat(want, names), rtol=1e-9, atol=1e-12)


def test_it_correlates_with_the_exact_damped_blocks_of_a_language_model() -> None:
    model, objective = gpt2(), LanguageModeling()
    loss = TrainingLoss(model, objective, [tokens(24, 9)])
    layers, rest = tracked_layers(model)
    assert [layer.weight.removeprefix("transformer.h.0.") for layer in layers] == [
        "attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight",
    ]  # fmt: skip
    assert "transformer.wte.weight" in rest  # tied to the output layer: no Kronecker product
    exact, drawn = ({f.layer.weight: f for f in fit_factors(loss, layers, labels, 0)} for labels in ("exact", "sampled"))
    for layer in layers:
        vectors = random_vectors(layer.names, model)
        damping = 0.1 * float(exact[layer.weight].values.mean())
        with only_trained(model, layer.names):
            want = flat(Dense(loss, dict.fromkeys(layer.names, damping), "gauss_newton").solve(vectors), layer.names)
        one, two = (
            correlation(flat(Kronecker([f[layer.weight]], lambda n, m, d=damping: d).solve(vectors), layer.names), want)  # type: ignore[misc]
            for f in (exact, drawn)
        )
        assert one > 0.93, layer.weight
        assert two > 0.9, layer.weight  # one draw a token


def test_no_eigenvalues_are_closer_than_corrected_ones() -> None:
    """In Frobenius norm, of all matrices with these eigenvectors (arXiv 1806.03884, proposition 1)."""
    model = gpt2()
    loss, (layers, _) = TrainingLoss(model, LanguageModeling(), [tokens(12, 7)]), tracked_layers(model, "c_proj")
    for layer in layers:
        width = sum(dict(model.named_parameters())[name].numel() for name in layer.names)
        units = layer.split(torch.eye(width, dtype=torch.float64).view(width, layer.num_outputs, -1))
        block = flat(loss.curvature_times(units, "gauss_newton"), layer.names)
        errors = []
        for is_corrected in (True, False):
            factors = fit_factors(loss, [layer], "exact", 0, is_corrected)
            errors.append(float((flat(Kronecker(factors, lambda n, m: 0.0).times(units), layer.names) - block).norm() / block.norm()))
        assert errors[0] < 0.99 * errors[1]
        assert errors[0] < 0.5


def test_eigenvalues_are_the_curvature_along_its_own_directions() -> None:
    model = gpt2()
    loss, (layers, _) = TrainingLoss(model, LanguageModeling(), [tokens(6, 7)]), tracked_layers(model, "c_fc")
    (factors,) = fit_factors(loss, layers, "exact", 0)
    for row, column in ((31, 8), (3, 2)):
        unit = torch.zeros_like(factors.values)[None]
        unit[0, row, column] = 1
        direction = layers[0].split(factors.back(unit))
        bent = loss.curvature_times(direction, "gauss_newton")
        assert float(sum((bent[name] * direction[name]).sum() for name in bent)) == pytest.approx(
            float(factors.values[row, column]), rel=1e-8
        )


@pytest.mark.parametrize("labels", ["empirical", "sampled"])
def test_padding_batches_and_order_do_not_matter(labels: str) -> None:
    model, objective = gpt2(), LanguageModeling()
    short, long = tokens(5, 6), tokens(4, 10, 2)
    padded = torch.cat([torch.nn.functional.pad(short, (0, 4), value=-100), long])[torch.tensor([8, 0, 3, 5, 1, 2, 4, 7, 6])]
    layers, _ = tracked_layers(model)
    ways = [[short, long], [padded], [long[2:], short[:1], short[1:], long[:2]]]
    vectors = random_vectors([name for layer in layers for name in layer.names], model)
    first, *others = (flat(_solved(TrainingLoss(model, objective, way), layers, labels, vectors), list(vectors)) for way in ways)
    for other in others:
        torch.testing.assert_close(other, first, rtol=1e-8, atol=1e-10)


def _solved(loss: TrainingLoss, layers: list[Tracked], labels: str, vectors: Vectors) -> Vectors:
    return Kronecker(fit_factors(loss, layers, labels, 0), lambda name, mean: 0.1 * mean).solve(vectors)


def test_labels_are_drawn_from_the_model() -> None:
    toy = Toy.make(0)
    model = toy.pretrained()
    many = Points(toy.before.inputs[:1].expand(4000, 3) + 1e-9 * torch.arange(4000)[:, None], torch.arange(4000)[:, None] % 3)
    layers, _ = tracked_layers(model, "first")
    loss = TrainingLoss(model, Pointwise(), [many])
    found, want = (fit_factors(loss, layers, labels, 3)[0].values.sum() for labels in ("sampled", "exact"))
    assert float(found) == pytest.approx(float(want), rel=0.1)


def test_a_weight_of_two_layers_counts_in_both() -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False)
            self.two.weight = self.one.weight

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            outputs: torch.Tensor = self.two(torch.tanh(self.one(inputs)))
            return outputs

    toy = Toy.make(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Twice().double()
    layers, rest = tracked_layers(model)
    assert ([layer.weight for layer in layers], rest) == (["one.weight"], [])
    loss = TrainingLoss(model, Pointwise(), [toy.before])
    (factors,) = fit_factors(loss, layers, "exact", 0)
    unit = torch.zeros_like(factors.values)[None]
    unit[0, 2, 2] = 1
    direction = layers[0].split(factors.back(unit))
    bent = loss.curvature_times(direction, "gauss_newton")["one.weight"]
    assert float((bent * direction["one.weight"]).sum()) == pytest.approx(float(factors.values[2, 2]), rel=1e-8)


def test_times_undoes_solve() -> None:
    model = gpt2()
    loss, (layers, _) = TrainingLoss(model, LanguageModeling(), [tokens(6, 7)]), tracked_layers(model)
    inverse = Kronecker(fit_factors(loss, layers, "empirical", 0), lambda n, m: 0.1 * m)
    vectors = random_vectors(inverse.names, model)
    back = flat(inverse.times(inverse.solve(vectors)), inverse.names)
    torch.testing.assert_close(back, flat(vectors, inverse.names), rtol=1e-9, atol=1e-11)
    assert isinstance(inverse.factors[0], Factors)
    with pytest.raises(InputError, match=r"transformer.wte.weight \(1 such"):
        inverse.solve(random_vectors(["transformer.wte.weight"], model))


@pytest.mark.parametrize("pattern", ["mlp", "attn"])
def test_full_rank_is_exact_and_less_is_close_where_data_are(pattern: str) -> None:
    model, objective, batch = gpt2(n_embd=16), LanguageModeling(), tokens(30, 9)
    loss, (layers, _) = TrainingLoss(model, objective, [batch]), tracked_layers(model, pattern)
    inverse = Kronecker(fit_factors(loss, layers, "empirical", 0), lambda n, m: 0.1 * m)
    asked = tokens(4, 9, 7)
    queries = example_gradients(model, objective, asked, inverse.names)
    exact = GradientProducts(inverse.solve(queries))(model, objective, batch)
    errors, best = [], []
    for rank in (4, 8, 12, 64):
        few = inverse.leading(rank)
        assert all(len(each.layer.names) == 2 and each.values.numel() for each in few.factors)
        held = few.low_rank(few.solve_turned(projected_gradients(model, objective, asked, few.bases)))
        near = GradientProducts(held)(model, objective, batch)
        again = GradientProducts(few.at_low_rank(inverse.solve(queries)))(model, objective, batch)
        torch.testing.assert_close(again, near, rtol=1e-7, atol=1e-9)
        wholes = [GradientProducts(held).vector(number) for number in range(4)]
        stacked = {name: torch.stack([whole[name] for whole in wholes]) for name in inverse.names}
        torch.testing.assert_close(GradientProducts(stacked)(model, objective, batch), near, rtol=1e-7, atol=1e-9)
        measured = inverse.leading(rank, inverse.solve(queries))
        own = GradientProducts(measured.at_low_rank(inverse.solve(queries)))(model, objective, batch)
        best.append(float((own - exact).norm() / exact.norm()))
        solved = few.solve(queries)  # the same without projected gradients
        torch.testing.assert_close(flat(solved, inverse.names), flat(stacked, inverse.names), rtol=1e-7, atol=1e-9)
        errors.append(float((near - exact).norm() / exact.norm()))
    assert errors[0] > errors[1] > errors[2] > errors[3]
    assert best[0] > best[1] > best[2] > best[3]
    assert max(errors[3], best[3]) < 1e-10


def test_directions_are_shared_out_over_layers() -> None:
    """Where some layers' gradients are a hundred times those of others, they get the directions; none is left without one."""
    model = gpt2(n_embd=16)
    loss, (layers, _) = TrainingLoss(model, LanguageModeling(), [tokens(30, 9)]), tracked_layers(model, "mlp")
    factors = fit_factors(loss, layers, "empirical", 0)
    large = [
        replace(each, values=each.values * (1e4 if number == 0 else 1.0), output_values=each.output_values * (1e4 if number == 0 else 1.0))
        for number, each in enumerate(factors)
    ]
    sizes = [tuple(each.values.shape) for each in Kronecker(large, lambda n, m: 1e-3).leading(3).factors]
    plain = [tuple(each.values.shape) for each in Kronecker(factors, lambda n, m: 1e-3).leading(3).factors]
    assert sizes[0] > plain[0]
    assert all(min(size) >= 1 for size in sizes)
    assert 3 * 2 * len(plain) <= sum(sum(size) for size in plain) <= 3 * 2 * len(plain) + 2 * len(plain)  # that one, for each


def test_a_model_without_linear_layers_is_an_error() -> None:
    with pytest.raises(InputError, match="no trained linear layer that is not tied"):
        tracked_layers(torch.nn.LayerNorm(3))
    with pytest.raises(InputError, match=r"scorer.parameters=nowhere"):
        tracked_layers(gpt2(), "nowhere")
    model = gpt2()
    loss, (layers, _) = TrainingLoss(model, LanguageModeling(), [tokens(2, 5)]), tracked_layers(model)
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        fit_factors(loss, layers, "empirical", 0)
    with pytest.raises(InputError, match=r"curvature.labels='guessed'"):
        fit_factors(loss, layers, "guessed", 0)
