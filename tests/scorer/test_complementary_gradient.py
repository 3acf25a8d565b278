"""The complementary gradient score against plain autograd and the formula by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from laboratory import Lab

from dsel.context import Context
from dsel.functional.gradients import mean_gradient
from dsel.pool import TEXT, TOKENS, Pool
from dsel.protocol import FittedScore
from dsel.scorer.cds import Cds
from dsel.scorer.complementary_gradient import BucketScore, ComplementaryGradient


@dataclass(frozen=True)
class Length:
    """A base scorer without surprises: characters, and a little of the row's content against ties."""

    reads = (TEXT,)

    def fit(self, source: Pool, target: Pool, context: Context) -> FittedScore:
        return length


def length(batch: pa.Table) -> npt.NDArray[np.float32]:
    values = [len(text) + (sum(map(ord, text)) % 97) / 100 for text in batch[TEXT].to_pylist()]
    return np.array(values, dtype=np.float32)[:, None]


def by_hand(lab: Lab, pool: Pool, count: int) -> npt.NDArray[np.float64]:
    """Mean gradient of a pool: documents end to end, blocks that share a token, a loop, in float64."""
    assert lab.world.model is not None
    context = lab.world.model.context
    flat = [token for row in pool.table[TOKENS].to_pylist() for token in row]
    while len(flat) < context + 1:
        flat = flat + flat
    total = max(1, (len(flat) - 1) // context)
    picked = sorted({int(place) for place in np.linspace(0, total - 1, min(count, total))})
    model = lab.context().load(None).double().requires_grad_(True)
    gradient = np.zeros(sum(p.numel() for p in model.parameters()))
    for block in picked:
        row = torch.tensor([flat[block * context : (block + 1) * context + 1]])
        model.zero_grad()
        log_p = torch.log_softmax(model(input_ids=row[:, :-1]).logits[0], dim=-1)
        loss = -sum(log_p[place, token] for place, token in enumerate(row[0, 1:])) / context
        loss.backward()  # type: ignore[union-attr]
        gradient += torch.cat([p.grad.flatten() for p in model.parameters()]).numpy() / len(picked)  # type: ignore[union-attr]
    return gradient


def test_bucket_scores_equal_the_formula_by_hand(lab: Lab) -> None:
    num_buckets, context = 3, lab.context()
    scorer = ComplementaryGradient(Length(), num_buckets=num_buckets, blocks_per_bucket=3, target_blocks=4)
    fitted = scorer.fit(lab.source, lab.target, context)
    assert isinstance(fitted, BucketScore)
    values = length(lab.source.table)[:, 0]
    edges = np.quantile(values, [1 / 3, 2 / 3])
    bucket = (values >= edges[0]).astype(int) + (values >= edges[1])
    assert min(np.bincount(bucket)) > len(values) / 4
    tuned, held_out = by_hand(lab, context.finetune, 4), by_hand(lab, context.held_out, 4)
    expected = []
    for number in range(num_buckets):
        own = by_hand(lab, lab.source.take(np.flatnonzero(bucket == number)), 3)
        rest = own - (own @ tuned) / (tuned @ tuned) * tuned
        assert abs(rest @ tuned) < 1e-9 * np.linalg.norm(rest) * np.linalg.norm(tuned) + 1e-12  # g' is orthogonal to g_ft
        expected.append(rest @ held_out / np.linalg.norm(rest))
    np.testing.assert_allclose(fitted.bucket_scores, expected, rtol=1e-3, atol=1e-5)


def test_units_stand_in_the_order_of_buckets_and_inside_by_the_base_score() -> None:
    scores = BucketScore(length, np.array([10, 20], dtype=np.float32), np.array([0.5, -1.0, 2.0], dtype=np.float32))
    texts = ["x" * number for number in (3, 8, 12, 18, 25, 40)]
    values = scores(pa.table({TEXT: texts}))[:, 0]
    assert np.argsort(-values).tolist() == [5, 4, 1, 0, 3, 2]  # the longest bucket is best, then the shortest


def test_gradients_do_not_depend_on_the_batch(lab: Lab) -> None:
    model = lab.context().load(None).requires_grad_(True)
    tokens = torch.randint(0, 200, (7, 33), generator=torch.Generator().manual_seed(0))
    whole = mean_gradient(model, lab.world.objective, [tokens])
    parts = mean_gradient(model, lab.world.objective, torch.split(tokens, 2))
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)
    assert all(p.grad is None for p in model.parameters())


def test_it_reads_and_costs_what_its_base_scorer_does() -> None:
    cheap, dear = ComplementaryGradient(Length()), ComplementaryGradient(Cds())
    assert (cheap.reads, cheap.num_passes) == ((TOKENS, TEXT), 0.0)
    assert (dear.reads, dear.num_passes) == ((TOKENS,), 2.0)
