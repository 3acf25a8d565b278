"""Projected gradients against one autograd pass an example and the whole matrix, on the kinds of models that people train."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from dsel.error import InputError
from dsel.functional import example_gradients as module
from dsel.functional.alignment import trainable
from dsel.functional.blocks import IGNORE
from dsel.functional.example_gradients import lift, method_for, offsets, project_gradients
from dsel.functional.ghost import Tape
from dsel.functional.ghost_layers import layer_for
from dsel.functional.log_odds import log_odds
from dsel.functional.projection import Projection
from dsel.objective.instruction import Instruction
from dsel.objective.pairs import Pairs
from dsel.objective.translation import Translation

VOCABULARY, ROWS = 29, 5
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
SPARSE = Projection("sparse", 24, 3)


class Masked:
    """A fake objective: all tokens of a batch (example, time) from the batch itself; padding is 0."""

    def token_losses(self, model: torch.nn.Module, batch: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
        logits = model(input_ids=batch, attention_mask=(batch != 0).long()).logits
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.flatten(), reduction="none")
        return losses.view(batch.shape)

    def predicted(self, batch: torch.Tensor) -> torch.Tensor:
        return batch != 0


MAKE: dict[str, Callable[[bool], torch.nn.Module]] = {
    "gpt2": lambda tied: GPT2LMHeadModel(
        GPT2Config(n_embd=8, n_layer=2, n_head=2, n_positions=16, vocab_size=VOCABULARY, tie_word_embeddings=tied, bos_token_id=0,
                   eos_token_id=0)
    ),
    "llama": lambda tied: LlamaForCausalLM(
        LlamaConfig(hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2, vocab_size=VOCABULARY,
                    tie_word_embeddings=tied, pad_token_id=0)
    ),
    "bert": lambda tied: BertForMaskedLM(
        BertConfig(hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=16,
                   vocab_size=VOCABULARY, tie_word_embeddings=tied)
    ),
    "t5": lambda tied: T5ForConditionalGeneration(
        T5Config(d_model=8, d_kv=4, d_ff=12, num_layers=2, num_heads=2, vocab_size=VOCABULARY, relative_attention_num_buckets=4,
                 tie_word_embeddings=tied, pad_token_id=0, decoder_start_token_id=0)
    ),
}  # fmt: skip
OBJECTIVE: dict[str, Any] = {"gpt2": Instruction(), "llama": Instruction(), "bert": Masked(), "t5": Translation()}


def padded(lengths: list[int], generator: torch.Generator, fill: int) -> torch.Tensor:
    found = torch.randint(2, VOCABULARY, (len(lengths), max(lengths)), generator=generator)
    return found.masked_fill(torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None], fill)


def make(kind: str, tied: bool = True, dtype: torch.dtype = torch.float32) -> tuple[torch.nn.Module, Any]:
    """A model and a batch of five examples, of which some are shorter; as many as the longest source has tokens."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MAKE[kind](tied).to(dtype).eval()
        for parameter in model.parameters():  # biases and norms are not at their beginnings
            parameter.data += 0.2 * torch.randn_like(parameter)
    generator = torch.Generator().manual_seed(1)
    if kind == "bert":
        return model, padded([6, 4, 6, 1, 3], generator, 0)
    return model, Pairs(padded([5, 3, 4, 1, 5], generator, IGNORE), padded([4, 5, 2, 4, 3], generator, IGNORE))


def take(batch: Any, which: slice) -> Any:
    return batch[which] if isinstance(batch, torch.Tensor) else Pairs(batch.source[which], batch.target[which])


def exact(model: torch.nn.Module, objective: Any, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Log odds (example,) and whole gradients (example, parameter) of the whole batch's graph."""
    outputs = log_odds(objective.token_losses(model, batch), objective.predicted(batch))
    rows = []
    for output in outputs:
        own = torch.autograd.grad(output, list(trainable(model).values()), retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([part.flatten() for part in own]))
    return outputs.detach(), torch.stack(rows)


def projected(projection: Projection, values: torch.Tensor) -> torch.Tensor:
    p = torch.zeros(values.shape[1], projection.dim, dtype=torch.float64)
    projection.add(p, torch.eye(values.shape[1], dtype=torch.float64), 0)
    return (values.double() @ p).to(values.dtype)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", MAKE)
def test_both_methods_are_the_product_with_the_whole(kind: str, tied: bool) -> None:
    model, batch = make(kind, tied)
    objective = OBJECTIVE[kind]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    outputs, whole = exact(model, objective, batch)
    assert method_for(model, objective, batch) == ("loop" if kind == "t5" else "ghost")
    projections = [SPARSE, Projection("sparse", 24, 0, 2), Projection("rademacher", 24, 0), Projection("gaussian", 24, 0)]
    for projection in projections:
        expected = projected(projection, whole)
        for method in ("auto", "loop") if projection is SPARSE else ("auto",):
            f, features = project_gradients(model, objective, batch, projection, method=method)
            torch.testing.assert_close(f, outputs, **CLOSE)
            assert relative(features, expected) < 1e-5
            assert not f.requires_grad
            assert not features.requires_grad
    assert all(p.requires_grad and p.grad is None and torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_in_double_precision(kind: str) -> None:
    """Nothing is left out; the objectives themselves are in float32."""
    model, batch = make(kind, dtype=torch.float64)
    tokens = make("bert")[1]
    outputs, whole = exact(model, Masked(), tokens)
    f, features = project_gradients(model, Masked(), tokens, SPARSE)
    torch.testing.assert_close(f, outputs, rtol=1e-12, atol=1e-12)
    assert relative(features, projected(SPARSE, whole)) < 1e-12
    _, whole = exact(model, OBJECTIVE[kind], batch)
    assert relative(project_gradients(model, OBJECTIVE[kind], batch, SPARSE)[1], projected(SPARSE, whole)) < 1e-5


def test_in_half_precision() -> None:
    model, batch = make("llama", dtype=torch.bfloat16)
    _, whole = exact(model, Instruction(), batch)
    for method in ("ghost", "loop"):
        f, features = project_gradients(model, Instruction(), batch, SPARSE, method=method)
        assert f.dtype == features.dtype == torch.float32
        assert relative(features, projected(SPARSE, whole.float())) < 0.05


@pytest.mark.parametrize("max_bytes", [1, 64, 500, 4000])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_pieces_of_any_size(kind: str, max_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = make(kind)
    expected = project_gradients(model, OBJECTIVE[kind], batch, SPARSE)[1]
    sizes = []
    add = Projection.add
    monkeypatch.setattr(Projection, "add", lambda self, out, values, offset: (sizes.append(values.numel()), add(self, out, values, offset)))
    for projection in (SPARSE, Projection("rademacher", 24, 0)):
        found = project_gradients(model, OBJECTIVE[kind], batch, projection, max_bytes=max_bytes)[1]
        if projection is SPARSE:
            assert relative(found, expected) < 1e-5
    assert max(sizes) <= max(max_bytes // 4, ROWS * 32)  # the longest vector, of all examples


@pytest.mark.parametrize("kind", MAKE)
def test_an_example_has_its_own_whatever_is_beside_it(kind: str) -> None:
    model, batch = make(kind)
    f, features = project_gradients(model, OBJECTIVE[kind], batch, SPARSE)
    for size in (1, 2):
        for start in range(0, ROWS, size):
            which = slice(start, start + size)
            few, own = project_gradients(model, OBJECTIVE[kind], take(batch, which), SPARSE)
            torch.testing.assert_close(few, f[which], **CLOSE)
            assert relative(own, features[which]) < 1e-5


@pytest.mark.parametrize("method", ["ghost", "loop"])
def test_of_some_parameters(method: str) -> None:
    """Those that are frozen have no part in it, and no number; nor have those that are not asked for."""
    model, batch = make("gpt2")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("ln_" not in name and "wpe" not in name)
    only = [name for name in trainable(model) if "attn" in name or "wte" in name]
    for some in (None, only):
        _, whole = exact(model, Instruction(), batch)
        kept = torch.cat([torch.full((p.numel(),), some is None or name in only) for name, p in trainable(model).items()])
        expected = projected(SPARSE, whole[:, kept])
        assert relative(project_gradients(model, Instruction(), batch, SPARSE, some, method=method)[1], expected) < 1e-5
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {
        name for name, _ in model.named_parameters() if "ln_" in name or "wpe" in name
    }


def test_the_attention_bias_of_t5_alone_needs_the_loop(caplog: pytest.LogCaptureFixture) -> None:
    """Once for what is trained of a model; and five examples of five tokens each do not hide it."""
    model, batch = make("t5")
    with caplog.at_level(logging.INFO, "dsel"):
        for _ in range(2):
            project_gradients(model, Translation(), batch, SPARSE)
    assert len(caplog.messages) == 1
    assert "one backward pass an example, since layer encoder.block.0.layer.0.SelfAttention.relative_attention_bias" in caplog.text
    with pytest.raises(InputError, match=r"relative_attention_bias .*; set method=loop$"):
        project_gradients(model, Translation(), batch, SPARSE, method="ghost")
    only = [name for name in trainable(model) if "relative_attention_bias" not in name]
    assert method_for(model, Translation(), batch, only) == "ghost"
    found, expected = (project_gradients(model, Translation(), batch, SPARSE, only, method=m)[1] for m in ("ghost", "loop"))
    assert relative(found, expected) < 1e-5


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft asks in the old way
@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_of_low_rank_adapters(kind: str) -> None:
    peft = pytest.importorskip("peft")
    model, batch = make(kind)
    targets = ["q_proj", "v_proj"] if kind == "llama" else ["q", "v"]
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=targets, init_lora_weights=False))
    adapted.eval()
    assert all("lora" in name for name in trainable(adapted))
    outputs, whole = exact(adapted, OBJECTIVE[kind], batch)
    assert method_for(adapted, OBJECTIVE[kind], batch) == "ghost"
    for method in ("auto", "loop"):
        f, features = project_gradients(adapted, OBJECTIVE[kind], batch, SPARSE, method=method)
        torch.testing.assert_close(f, outputs, **CLOSE)
        assert relative(features, projected(SPARSE, whole)) < 1e-5


def test_gradients_that_were_there_stay() -> None:
    model, batch = make("gpt2")
    Instruction().token_losses(model, batch).sum().backward()
    before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    with torch.no_grad():  # as a caller may be
        for method in ("ghost", "loop"):
            project_gradients(model, Instruction(), batch, SPARSE, method=method)
    assert before
    assert all(torch.equal(p.grad, before[name]) for name, p in model.named_parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
def test_whole_gradients_by_the_tape(kind: str) -> None:
    """As they are, one parameter at a time; of tied weights the sum."""
    model, batch = make(kind)
    _, whole = exact(model, OBJECTIVE[kind], batch)
    _, tape = module._record(model, OBJECTIVE[kind], batch)
    found = dict(tape.example_gradients())
    assert all(part.shape == (ROWS, *tape.parameters[name].shape) for name, part in found.items())
    flat = torch.cat([found.get(name, torch.zeros(ROWS, *p.shape)).flatten(1) for name, p in tape.parameters.items()], 1)
    assert relative(flat, whole) < 1e-5
    for call in tape.batches[0].calls:  # layer by layer they add up to the gradient of the sum
        for name, part in call.layer.per_example(*call.rows()).items():
            torch.testing.assert_close(part.sum(0), call.layer.gradient(*call.rows())[name], rtol=1e-4, atol=1e-5)
    assert list(dict(tape.example_gradients(only=["lm_head.weight"]))) == [n for n in tape.parameters if n == "lm_head.weight"]


class Sequential(torch.nn.Module):
    """A layer that torch cannot do for many examples at once: it asks for a value."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor([0.5, 2.0, -1.0, 1.5]))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden * self.scale if float(hidden.sum()) > 0 else hidden * self.scale * self.scale


class Shared(torch.nn.Module):
    """Embeds, bends and predicts by the same matrix, of which a row is padding."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(VOCABULARY, 4, padding), torch.nn.Linear(4, VOCABULARY)
        self.head.weight = self.embed.weight

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        return SimpleNamespace(logits=self.head(self.embed(input_ids).tanh()))


def test_a_layer_that_looks_at_its_values() -> None:
    layer, generator = Sequential(), torch.Generator().manual_seed(0)
    x, y = (torch.randn(ROWS, 6, 4, generator=generator) for _ in range(2))
    assert 0 < int((x.sum((1, 2)) > 0).sum()) < ROWS
    found = layer_for(layer, "layer").per_example(x, y)["scale"]
    for row in range(ROWS):
        (own,) = torch.autograd.grad((layer(x[row : row + 1]) * y[row]).sum(), layer.scale)
        torch.testing.assert_close(found[row], own)


def test_what_one_example_does_not_show() -> None:
    """A layer that is given the tokens of several examples in one row is found out by the first batch of several."""

    class Flattening(Shared):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            hidden = self.embed(input_ids).tanh()
            flat = hidden.flatten(0, 1) if len(hidden) > 1 else hidden
            return SimpleNamespace(logits=self.head(flat).view(*input_ids.shape, VOCABULARY))

    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = Flattening(5)
    batch = make("bert")[1]
    assert method_for(model, Masked(), batch) == "ghost"
    _, whole = exact(model, Masked(), batch)
    assert relative(project_gradients(model, Masked(), batch, SPARSE)[1], projected(SPARSE, whole)) < 1e-5
    assert method_for(model, Masked(), batch) == "loop"


def test_padding_that_stands_still() -> None:
    """An embedding gives no gradient to its padding's row, but the output layer that shares it does."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = Shared(padding=5)
    batch = make("bert")[1]
    batch[0, :2] = 5
    _, whole = exact(model, Masked(), batch)
    for projection in (SPARSE, Projection("gaussian", 24, 0)):
        for method in ("ghost", "loop"):
            found = project_gradients(model, Masked(), batch, projection, method=method)[1]
            assert relative(found, projected(projection, whole)) < 1e-5


def test_lift_moves_along_the_features() -> None:
    """To first order outputs change by weights times features."""
    model, batch = make("gpt2")
    weights = torch.randn(SPARSE.dim, generator=torch.Generator().manual_seed(0))
    moved, (_, features) = lift(model, SPARSE, weights), project_gradients(model, Instruction(), batch, SPARSE)
    _, whole = exact(model, Instruction(), batch)
    torch.testing.assert_close(whole @ torch.cat([part.flatten() for part in moved.values()]), features @ weights, rtol=1e-4, atol=1e-4)
    assert {name: part.shape for name, part in moved.items()} == {name: p.shape for name, p in trainable(model).items()}
    only = list(moved)[3:5]
    assert offsets(model, only) == {only[0]: 0, only[1]: moved[only[0]].numel()}
    assert list(lift(model, SPARSE, weights, only)) == only


def test_what_cannot_be() -> None:
    model, batch = make("gpt2")
    with pytest.raises(InputError, match="method='fast': must be one of auto, ghost, loop"):
        project_gradients(model, Instruction(), batch, SPARSE, method="fast")
    model.requires_grad_(False)
    with pytest.raises(InputError, match=r"gradients: none of the model's \d+ parameters is trained"):
        project_gradients(model, Instruction(), batch, SPARSE)


def test_an_error_within_leaves_the_model_alone() -> None:
    model, batch = make("gpt2")
    only = ["transformer.wte.weight"]

    class Broken(Instruction):
        def token_losses(self, model: torch.nn.Module, batch: Any, smoothing: float = 0.0) -> torch.Tensor:
            super().token_losses(model, batch)
            raise KeyError("broken")

    for method in ("auto", "loop"):
        with pytest.raises(KeyError):
            project_gradients(model, Broken(), batch, SPARSE, only, method=method)
    assert all(p.requires_grad for p in model.parameters())
    with Tape(model):  # nothing of the one before is left
        pass
