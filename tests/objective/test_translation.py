"""Pairs: losses against a loop over pairs, batches against what they must hold."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsel.error import InputError
from dsel.functional.blocks import IGNORE
from dsel.functional.likelihood import document_losses
from dsel.functional.pairs import Ragged, by_length, rectangle
from dsel.model.seq2seq import Seq2Seq
from dsel.objective.pair_batches import PairBatches
from dsel.objective.pairs import Pairs
from dsel.objective.translation import Translation
from dsel.pool import NOISE, SOURCE_TOKENS, TOKENS, Pool

CONTEXT, VOCABULARY = 12, 40
lists = st.lists(st.integers(2, VOCABULARY - 1), min_size=1, max_size=20)
pair_lists = st.lists(st.tuples(lists, lists), min_size=1, max_size=12)


def make_table(pairs: list[tuple[list[int], list[int]]]) -> pa.Table:
    """As the tokenizer leaves them: the source with its end, the target with a place for the start and its end."""
    kind = pa.list_(pa.uint16())
    source, target = [[*a, 1] for a, _ in pairs], [[1, *b, 1] for _, b in pairs]
    return pa.table({SOURCE_TOKENS: pa.array(source, kind), TOKENS: pa.array(target, kind)})


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Seq2Seq(num_layers=1, dim=16, ffn_dim=32, num_heads=2, context=CONTEXT, dropout=0.0).build(VOCABULARY).eval()


def loop(model: torch.nn.Module, source: list[int], target: list[int]) -> float:
    """One pair by itself, without padding."""
    labels = torch.tensor([target[1 : CONTEXT + 1]])
    before = torch.cat([torch.tensor([[model.config.decoder_start_token_id]]), labels[:, :-1]], 1)
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([source[:CONTEXT]]), decoder_input_ids=before).logits
    return float(-logits.double().log_softmax(-1)[0].gather(1, labels[0, :, None]).sum())


@settings(max_examples=15, deadline=None)
@given(pairs=pair_lists, tokens_per_batch=st.sampled_from([1, 30, 500]))
def test_losses_equal_a_loop_over_pairs(model: torch.nn.Module, pairs: list[tuple[list[int], list[int]]], tokens_per_batch: int) -> None:
    table = make_table(pairs)
    losses, counts = document_losses([model], Translation(), table, CONTEXT, tokens_per_batch)
    assert counts.tolist() == [min(len(b) + 1, CONTEXT) for _, b in pairs]
    expected = [loop(model, a, b) for a, b in zip(table[SOURCE_TOKENS].to_pylist(), table[TOKENS].to_pylist(), strict=True)]
    np.testing.assert_allclose(losses[:, 0], expected, rtol=1e-4, atol=1e-4)


@given(pairs=pair_lists, batch_size=st.integers(1, 4), seed=st.integers(0, 3))
def test_every_pair_comes_once_an_epoch(pairs: list[tuple[list[int], list[int]]], batch_size: int, seed: int) -> None:
    pool = Pool("made up", make_table([([i + 2], b) for i, (_, b) in enumerate(pairs)]), "made up")
    batches = PairBatches({"source": (pool, 1.0)}, CONTEXT, batch_size, seed)
    seen: Counter[int] = Counter()
    for step in range(3 * len(pairs)):
        batch = batches[step]
        assert batch.target.shape[1] * len(batch.target) <= max(batch_size * CONTEXT, batch.target.shape[1]) + len(batch.target)
        seen.update(batch.source[:, 0].tolist())
        if min(seen.get(i + 2, 0) for i in range(len(pairs))) == max(seen.values()) == 2:
            break
    assert set(seen.values()) == {2}, seen
    again = PairBatches({"source": (pool, 1.0)}, CONTEXT, batch_size, seed)
    assert torch.equal(again[5].source, batches[5].source)  # asked for first, or after others


def test_noise_goes_with_its_pair() -> None:
    table = make_table([([i + 2], [i + 2]) for i in range(9)])
    noise = pa.array(["copy" if i % 3 == 0 else None for i in range(9)])
    pools = {"source": (Pool("a", table.append_column(NOISE, noise), "a"), 1.0), "finetune": (Pool("b", table, "b"), 1.0)}
    batch = PairBatches(pools, CONTEXT, 4, 0)[0]
    assert batch.noisy is not None
    flags = dict(zip(batch.source[:, 0].tolist(), batch.noisy.tolist(), strict=True))
    assert len(batch.noisy) == len(batch.source) > 4
    assert all(number % 3 == 2 for number, noisy in flags.items() if noisy)


def test_an_empty_part() -> None:
    with pytest.raises(InputError, match="train on source: there are no pairs in it"):
        PairBatches({"source": (Pool("a", make_table([]), "a"), 1.0)}, CONTEXT, 4, 0)


@given(rows=st.lists(st.lists(st.integers(0, 99), max_size=9), min_size=1, max_size=9), most=st.integers(1, 9), tokens=st.integers(1, 40))
def test_rectangles_hold_every_list_once(rows: list[list[int]], most: int, tokens: int) -> None:
    flat = np.array([value for row in rows for value in row], np.uint16)
    ragged = Ragged(flat, np.cumsum([0, *map(len, rows)]))
    parts = list(by_length(np.minimum(ragged.lengths, most), tokens))
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(rows)))
    for which in parts:
        for place, tokens_of in zip(which, rectangle(ragged, which, most).tolist(), strict=True):
            assert [t for t in tokens_of if t != IGNORE] == rows[place][:most]


def test_joined_batches_lose_the_same(model: torch.nn.Module) -> None:
    first = Pairs(torch.tensor([[5, 6, 1]]), torch.tensor([[1, 7, 8, 9, 1]]))
    second = Pairs(torch.tensor([[5, 1], [7, 1]]), torch.tensor([[1, 7, 1], [1, 1, IGNORE]]), torch.tensor([True, False]))
    objective = Translation()
    joint = objective.join([first, second])
    assert joint.noisy is not None
    assert joint.noisy.tolist() == [False, True, False]
    with torch.inference_mode():
        whole, parts = objective.token_losses(model, joint), [objective.token_losses(model, part) for part in (first, second)]
    torch.testing.assert_close(whole[:1], parts[0])
    torch.testing.assert_close(whole[1:, :2], parts[1])
    assert whole[1:, 2:].abs().max() == 0
    assert objective.predicted(joint).sum(1).tolist() == [4, 2, 1]
