"""Alignment of gradients: every way against one backward pass an example, on the kinds of models that people train."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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
    MarianConfig,
    MarianMTModel,
)

from dsel.error import InputError
from dsel.functional.alignment import by_double_backward, by_finite_difference, by_jvp, by_loop, gradient, trainable
from dsel.functional.ghost import Tape
from dsel.functional.ghost_layers import Factors

VOCABULARY, ROWS, LENGTH = 13, 5, 6
SIZE: dict[str, Any] = {"vocab_size": VOCABULARY}
MAKE: dict[str, Callable[[float, bool], torch.nn.Module]] = {
    "gpt2": lambda dropout, tied: GPT2LMHeadModel(
        GPT2Config(n_embd=8, n_layer=2, n_head=2, n_positions=16, resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout,
                   tie_word_embeddings=tied, attn_implementation="eager", bos_token_id=0, eos_token_id=0, **SIZE)
    ),
    "llama": lambda dropout, tied: LlamaForCausalLM(
        LlamaConfig(hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2, attention_dropout=dropout,
                    tie_word_embeddings=tied, attn_implementation="eager", **SIZE)
    ),
    "bert": lambda dropout, tied: BertForMaskedLM(
        BertConfig(hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=16,
                   hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout, tie_word_embeddings=tied,
                   attn_implementation="eager", **SIZE)
    ),
    "marian": lambda dropout, tied: MarianMTModel(
        MarianConfig(d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
                     encoder_ffn_dim=12, decoder_ffn_dim=12, max_position_embeddings=16, dropout=dropout, pad_token_id=0, eos_token_id=1,
                     decoder_start_token_id=0, decoder_vocab_size=VOCABULARY, tie_word_embeddings=tied, scale_embedding=True,
                     share_encoder_decoder_embeddings=tied, attn_implementation="eager", **SIZE)
    ),
}  # fmt: skip


def make(kind: str, dropout: float, tied: bool, dtype: torch.dtype) -> tuple[torch.nn.Module, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MAKE[kind](dropout, tied).to(dtype).train()
        tokens = torch.randint(2, VOCABULARY, (ROWS, LENGTH))
        for parameter in model.parameters():  # biases and norms are not at their beginnings
            parameter.data += 0.1 * torch.randn_like(parameter)
    tokens[1, 4:] = 0  # shorter: padding
    return model, tokens


def token_losses(model: torch.nn.Module, tokens: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Of a language model, or of a translation of the tokens into themselves backwards."""
    padding = tokens == 0
    if isinstance(model, MarianMTModel):
        labels = tokens.flip(1)
        logits = model(input_ids=tokens, attention_mask=(~padding).long(), decoder_input_ids=labels.roll(1, 1)).logits
        padding = padding.flip(1)
    else:
        labels, logits = tokens, model(input_ids=tokens).logits
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none", label_smoothing=smoothing)
    return losses.view(labels.shape).masked_fill(padding, 0.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", MAKE)
def test_all_ways_agree_with_the_loop(kind: str, tied: bool, dtype: torch.dtype) -> None:
    model, tokens = make(kind, 0.1, tied, dtype)
    exact = dtype == torch.float64 and kind != "llama"  # whose norms and softmax are in float32 whatever else is
    close = {"rtol": 1e-9, "atol": 1e-9} if exact else {"rtol": 2e-4, "atol": 2e-4}
    clean = 2  # the first two are the clean set

    def losses(some: torch.nn.Module, given: torch.Tensor = tokens) -> torch.Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(1)  # the same units drop out each time
            return token_losses(some, given, smoothing=0.1)

    direction = gradient(model, losses(model)[:clean].sum())
    expected = by_loop(model, losses(model), direction)
    torch.testing.assert_close(by_double_backward(model, losses(model), direction), expected, **close)
    values, slopes = by_jvp(model, losses, direction)
    torch.testing.assert_close(slopes, expected, **close)
    torch.testing.assert_close(values, losses(model), **close)
    if exact:
        torch.testing.assert_close(by_finite_difference(model, losses, direction, 1e-4), expected, rtol=1e-4, atol=1e-5)

    trained = [p.requires_grad for p in model.parameters()]
    with Tape(model) as tape:
        tape.begin(ROWS)
        tape.backward(losses(model).sum())
        for rows in (1, 2):  # few clean tokens go by pairs in some layers, more in fewer
            tape.begin(rows)
            tape.backward(losses(model, tokens[-rows:]).sum())
    assert all(p.grad is None for p in model.parameters())
    assert [p.requires_grad for p in model.parameters()] == trained
    for weights in ([1.0, 1.0, 0, 0, 0], [0.5, 2.0, 0, 1.0, 0.125], [3.0] * 5):
        found = tape.gradient(0, torch.tensor(weights))
        for name, part in gradient(model, (losses(model) * torch.tensor(weights, dtype=dtype)[:, None]).sum()).items():
            torch.testing.assert_close(found[name], part, **close)
    torch.testing.assert_close(tape.products(direction), expected.sum(1), **close, check_dtype=False)
    for batch in (1, 2):
        along = gradient(model, losses(model, tokens[-batch:]).sum())
        expected = by_loop(model, losses(model).sum(1), along)
        torch.testing.assert_close(tape.align(0, batch), expected, **close, check_dtype=False)
    each = [gradient(model, losses(model)[row].sum()) for row in range(ROWS)]
    norms = torch.stack([torch.cat([part.flatten() for part in own.values()]).norm() for own in each])
    torch.testing.assert_close(tape.norms(), norms, **close, check_dtype=False)


@pytest.mark.parametrize(("kind", "pattern"), [("gpt2", "attn"), ("marian", "encoder_attn"), ("marian", "shared"), ("bert", "bias")])
def test_over_some_parameters_only(kind: str, pattern: str) -> None:
    """As if the others were not trained; the gradient that trains is of all."""
    model, tokens = make(kind, 0.0, True, torch.float64)
    losses = partial(token_losses, tokens=tokens)
    direction = {name: part for name, part in gradient(model, losses(model).sum()).items() if pattern in name}
    assert 0 < len(direction) < len(trainable(model))
    close = {"rtol": 1e-9, "atol": 1e-9}
    expected = by_loop(model, losses(model), direction)
    torch.testing.assert_close(by_double_backward(model, losses(model), direction), expected, **close)
    torch.testing.assert_close(by_jvp(model, losses, direction)[1], expected, **close)
    torch.testing.assert_close(by_finite_difference(model, losses, direction, 1e-4), expected, rtol=1e-4, atol=1e-5)
    tape = ghost(model, tokens)
    torch.testing.assert_close(tape.products(direction), expected.sum(1), **close, check_dtype=False)
    torch.testing.assert_close(tape.align(0, 0, direction.keys()), expected.sum(1), **close, check_dtype=False)
    assert tape.gradient(0, only=direction.keys()).keys() == direction.keys()
    assert tape.gradient(0).keys() == trainable(model).keys()
    each = [gradient(model, losses(model)[row].sum()) for row in range(ROWS)]
    norms = torch.stack([torch.cat([own[name].flatten() for name in direction]).norm() for own in each])
    torch.testing.assert_close(tape.norms(0, direction.keys()), norms, **close, check_dtype=False)


@pytest.mark.parametrize("mine", ["dense", "rows"])
@pytest.mark.parametrize("theirs", ["dense", "rows"])
def test_factors_multiply_as_the_matrices_do(mine: str, theirs: str) -> None:
    generator = torch.Generator().manual_seed(0)

    def factors(kind: str, tokens: int) -> tuple[Factors, torch.Tensor]:
        """And what they stand for (example, token, rows, columns)."""
        columns = torch.randn(3, tokens, 4, generator=generator)
        number = torch.randint(6, (3, tokens), generator=generator)
        dense = torch.randn(3, tokens, 6, generator=generator) if kind == "dense" else torch.nn.functional.one_hot(number, 6).float()
        return Factors(dense if kind == "dense" else number, columns), torch.einsum("btr,btc->btrc", dense, columns)

    (one, first), (other, second) = factors(mine, 5), factors(theirs, 2)
    torch.testing.assert_close(one.times(other), torch.einsum("btrc,bsrc->bts", first, second))
    flat = torch.einsum("trc,src->ts", first.flatten(0, 1), second.flatten(0, 1))
    torch.testing.assert_close(one.flat().times(other.flat())[0], flat)


@pytest.mark.parametrize("padded", [True, False])
def test_tied_weights_by_pairs_of_tokens(padded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings of both sides and the output share one matrix: all nine products of theirs, where they are fewer operations."""
    taken = []
    monkeypatch.setattr(Factors, "times", lambda self, other, times=Factors.times: taken.append(1) or times(self, other))
    model, tokens = make("marian", 0.0, True, torch.float64)
    if not padded:
        tokens[1, 4:] = 5
    tape = ghost(model, tokens)
    for batch in tape.batches:
        monkeypatch.setattr(batch, "over", lambda only, calls=batch.calls: [c for c in calls if "model.shared.weight" in c.names.values()])
    monkeypatch.setattr(Factors, "num_products", lambda self, other: 0)
    direction = {"model.shared.weight": gradient(model, token_losses(model, tokens).sum())["model.shared.weight"]}
    expected = by_loop(model, token_losses(model, tokens).sum(1), direction)
    torch.testing.assert_close(tape.align(0, 0), expected, rtol=1e-9, atol=1e-9, check_dtype=False)
    assert len(taken) == 9


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_dual_numbers_through_fused_attention(dropout: float) -> None:
    config = GPT2Config(n_embd=8, n_layer=2, n_head=2, n_positions=16, resid_pdrop=dropout, attn_pdrop=dropout, embd_pdrop=dropout,
                        attn_implementation="sdpa", bos_token_id=0, eos_token_id=0, **SIZE)  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, tokens = GPT2LMHeadModel(config).to(torch.float64).train(), torch.randint(2, VOCABULARY, (ROWS, LENGTH))

    def losses(some: torch.nn.Module) -> torch.Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return token_losses(some, tokens, 0.1)

    direction = gradient(model, losses(model)[:2].sum())
    values, slopes = by_jvp(model, losses, direction)
    torch.testing.assert_close(values, losses(model), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(slopes, by_loop(model, losses(model), direction), rtol=1e-9, atol=1e-9)
    own = torch.autograd.grad(values.sum(), list(trainable(model).values()))
    for name, part in gradient(model, losses(model).sum()).items():
        torch.testing.assert_close(own[list(trainable(model)).index(name)], part, rtol=1e-9, atol=1e-9)


def small(kind: str = "gpt2") -> tuple[torch.nn.Module, torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
    """A model, tokens, the gradient on two of them, and each example's product with it by the loop."""
    model, tokens = make(kind, 0.0, True, torch.float32)
    return model, tokens, *looped(model, tokens)


def looped(model: torch.nn.Module, tokens: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The gradient on the first two rows, and each row's product with it by the loop."""
    direction = gradient(model, token_losses(model, tokens)[:2].sum())
    return direction, by_loop(model, token_losses(model, tokens).sum(1), direction)


def ghost(model: torch.nn.Module, tokens: torch.Tensor) -> Tape:
    with Tape(model) as tape:
        tape.begin(len(tokens))
        tape.backward(token_losses(model, tokens).sum())
    return tape


@pytest.mark.parametrize("reentrant", [True, False])
def test_under_gradient_checkpointing(reentrant: bool) -> None:
    model, tokens, direction, expected = small()
    model.activation_checkpointing_enable({"use_reentrant": reentrant})  # type: ignore[operator]
    found = ghost(model, tokens).products(direction)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_under_autocast() -> None:
    model, tokens, direction, expected = small()
    with torch.autocast("cpu", torch.bfloat16):
        tape = ghost(model, tokens)
    found = tape.products(direction)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05 * float(expected.abs().max()))
    assert found.sub(expected).abs().max() > 0  # or nothing was in bfloat16


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft asks in the old way
def test_of_low_rank_adapters() -> None:
    import peft

    model, tokens, _, _ = small("llama")
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    direction, expected = looped(adapted, tokens)
    assert all("lora" in name for name in direction)
    torch.testing.assert_close(ghost(adapted, tokens).products(direction), expected, rtol=1e-4, atol=1e-5)


def test_accumulated_gradients_stay() -> None:
    model, tokens, _, _ = small()
    token_losses(model, tokens).sum().backward()
    before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    ghost(model, tokens)
    assert before
    assert all(torch.equal(p.grad, before[name]) for name, p in model.named_parameters() if p.grad is not None)


class Odd(torch.nn.Module):
    """Embeds, mixes by `middle`, and predicts."""

    def __init__(self, middle: torch.nn.Module) -> None:
        super().__init__()
        self.embed, self.middle, self.head = torch.nn.Embedding(VOCABULARY, 4), middle, torch.nn.Linear(4, VOCABULARY)

    def forward(self, input_ids: torch.Tensor) -> Any:
        from types import SimpleNamespace

        return SimpleNamespace(logits=self.head(self.middle(self.embed(input_ids))))


class Scale(torch.nn.Module):
    def __init__(self, children: bool) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.linspace(0.5, 1.5, 4))
        self.inner = torch.nn.Linear(4, 4) if children else None

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.scale * (hidden if self.inner is None else self.inner(hidden)).tanh()


class Borrowed(torch.nn.Linear):
    """Its weight is used without it."""


class Borrower(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lent = Borrowed(4, 4)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden @ self.lent.weight


class Flat(torch.nn.Linear):
    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden)


class Flattening(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(4, 4)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.inner(hidden.flatten(0, 1)).view(hidden.shape)


class Normalised(torch.nn.BatchNorm1d):
    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden.transpose(1, 2)).transpose(1, 2)


class Convolution(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Conv1d(4, 4, 3, padding=1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.inner(hidden.transpose(1, 2)).transpose(1, 2)


@pytest.mark.parametrize("middle", [Scale(False), Convolution(), torch.nn.RMSNorm(4), Flat(4, 4)], ids=lambda m: type(m).__name__)
def test_any_layer_that_does_to_each_example_the_same(middle: torch.nn.Module) -> None:
    model, tokens = Odd(middle), make("gpt2", 0.0, True, torch.float32)[1]
    direction, expected = looped(model, tokens)
    torch.testing.assert_close(ghost(model, tokens).products(direction), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("middle", "message"),
    [
        (Scale(True), "parameter middle.scale .0 more.: is used outside of a layer of its own"),
        (Borrower(), "parameter middle.lent.weight .0 more.: is used outside of a layer of its own"),
        (Flattening(), r"layer middle.inner .Linear.: the first of its input's dimensions .30, 4. is not the examples"),
        (Normalised(4), "layer middle .Normalised.: it mixes examples"),
    ],
)
def test_a_layer_that_cannot_be_handled(middle: torch.nn.Module, message: str) -> None:
    model = Odd(middle)
    with pytest.raises(InputError, match=message + ".*the ghost product cannot be had; set online.method=jvp"):
        ghost(model, make("gpt2", 0.0, True, torch.float32)[1])
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
