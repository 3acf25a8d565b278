"""Influence by EK-FAC beside kronfluence: `python benchmarks/influence.py [--quick] [--curve]`. The last line is JSON.

A GPT-2-like model, trained a little on installed documentation, 500 examples and 10 or 1,000 queries of 128 tokens; the linear layers of
its blocks are tracked. Floors: of the factors, two forward and two backward passes without weight gradients over the examples, and one
product for each example's gradient; of scores, one such pass over the examples. kronfluence (see `influence_peer.py`) runs on the same
model and data with the same damping; with the data's own labels both have the same factors, and scores are to agree.

At low rank queries and candidates meet along few directions of the factors' eigenbases, as many as the rank on average; how close scores
remain is their correlation with the exact ones. All times are from tokens to scores, with the exact scores of kronfluence beside them; its
own low rank, which is for each query alone, stands in the name.
Two phases: what a query takes more than in one, and a candidate.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from overhead import in_turns
from table import Row, print_json, show

from dsel.attribution import twin
from dsel.data.installed_docs import InstalledDocs
from dsel.functional.blocks import gather_blocks, num_blocks
from dsel.functional.curvature import TrainingLoss, Vectors
from dsel.functional.ghost import Tape
from dsel.functional.gradient_products import GradientProducts, example_gradients, projected_gradients
from dsel.functional.kronecker import Kronecker, fit_factors
from dsel.functional.output_gradients import to_outputs
from dsel.functional.peak_memory import peak_mb
from dsel.functional.tracked import Tracked, only_trained, tracked_layers
from dsel.functional.two_phase import TwoPhases
from dsel.model.causal_lm import CausalLM
from dsel.objective.language_modeling import LanguageModeling
from dsel.pool import ID, TEXT, Pool

OBJECTIVE = LanguageModeling()
BLOCKS, TRACKED = r"transformer\.h\.\d+\.(attn|mlp)\.c_\w+", r"h\.\d+\.(attn|mlp)"  # of modules, of parameters
CLOSE = 0.95


@dataclass(frozen=True)
class Size:
    """The model, the data, and how much it learns before."""

    dim: int = 128
    layers: int = 4
    context: int = 128
    examples: int = 500
    queries: int = 10
    many: int = 1000
    steps: int = 150
    batch: int = 32
    documents: int = 3000


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def make(size: Size) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """A model that has learnt a little, examples and queries (row, time + 1)."""
    texts = (
        InstalledDocs("networkx", ["scipy", "sympy"], max_documents=size.documents, min_characters=200, max_characters=1500).read().source
    )
    recipe = CausalLM(num_layers=size.layers, dim=size.dim, num_heads=4, context=size.context, tokenizer_documents=1000)
    tokenizer = recipe.tokenizer(Pool("docs", texts.select([TEXT, ID] if ID in texts.column_names else [TEXT]), "docs"))
    flat = np.concatenate([np.array([0, *tokenizer(text)["input_ids"]]) for text in texts[TEXT].to_pylist()])
    which = np.random.default_rng(0).permutation(num_blocks(len(flat), size.context))
    rows = torch.from_numpy(gather_blocks(flat, which, size.context))
    torch.manual_seed(0)
    model = recipe.build(len(tokenizer))
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    learnt = rows[size.examples + size.many :]
    for step in range(size.steps):
        batch = learnt[np.arange(step * 16, step * 16 + 16) % len(learnt)]
        loss = OBJECTIVE.token_losses(model, batch).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"model of {sum(p.numel() for p in model.parameters()):,} parameters, at a loss of {loss.item():.2f} after {size.steps} steps")
    return model.eval(), rows[: size.examples], rows[size.examples : size.examples + size.many]


def forward_backward(model: torch.nn.Module, batches: list[torch.Tensor], names: list[str]) -> None:
    """A pass to all layers' outputs, with no weight gradient."""
    with only_trained(model, names):
        for batch in batches:
            with Tape(model) as tape:
                tape.begin(len(batch))
                tape.backward(*to_outputs(OBJECTIVE, model, batch))


def gradients(model: torch.nn.Module, queries: torch.Tensor, names: list[str]) -> Vectors:
    """Of each query's summed loss."""
    found = {name: torch.empty(len(queries), *p.shape) for name, p in model.named_parameters() if name in names}
    for first in range(0, len(queries), 32):
        for name, part in example_gradients(model, OBJECTIVE, queries[first : first + 32], names).items():
            found[name][first : first + 32] = part
    return found


def scores(model: torch.nn.Module, batches: list[torch.Tensor], products: GradientProducts) -> np.ndarray[Any, Any]:
    """(query, example)."""
    return torch.cat([products(model, OBJECTIVE, batch) for batch in batches]).T.numpy()


def ours(model: torch.nn.Module, batches: list[torch.Tensor], layers: list[Tracked], labels: str) -> Kronecker:
    """The inverse."""
    return Kronecker(fit_factors(TrainingLoss(model, OBJECTIVE, batches), layers, labels, 0), lambda name, mean: 0.1 * mean)


def small(model: torch.nn.Module, queries: torch.Tensor, inverse: Kronecker, rank: int) -> GradientProducts:
    """Preconditioned queries at low rank."""
    few = inverse.leading(rank)
    parts = [projected_gradients(model, OBJECTIVE, batch, few.bases) for batch in queries.split(32)]
    cores = {name: torch.cat([part[name] for part in parts]) for name in few.bases}
    return GradientProducts(few.low_rank(few.solve_turned(cores)))


def correlation(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """The mean over queries."""
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(one, other, strict=True)]))


def compare(size: Size, rounds: int, ranks: list[int]) -> dict[str, float]:
    """Seconds, the least of some rounds, and correlations."""
    from influence_peer import Peer

    model, train, queries = make(size)
    batches, best = list(train.split(size.batch)), dict[str, float]()
    layers, _ = tracked_layers(model, TRACKED)
    names = [name for layer in layers for name in layer.names]
    sides = {"few": queries[: size.queries], "many": queries}

    def note(name: str, work: Callable[[], Any]) -> Any:
        seconds, found = timed(work)
        best[name] = min(seconds, best.get(name, seconds))
        return found

    exact = {}
    for number in range(rounds):
        note("pass", partial(forward_backward, model, batches, names))
        note("factors", partial(ours, model, batches, layers, "sampled"))
        inverse = note("factors_empirical", partial(ours, model, batches, layers, "empirical"))
        for side, some in sides.items():
            if side == "few" or number == 0:  # many take long enough
                vectors = note(f"precondition_{side}", lambda some=some, inverse=inverse: inverse.solve(gradients(model, some, names)))  # type: ignore[misc]
                exact[side] = note(f"scores_{side}", partial(scores, model, batches, GradientProducts(vectors)))
                del vectors
            for rank in ranks:
                products = note(f"precondition_{side}_{rank}", partial(small, model, some, inverse, rank))
                near = note(f"scores_{side}_{rank}", partial(scores, model, batches, products))
                best[f"correlation_{side}_{rank}"] = correlation(near, exact[side])
    for number in range(rounds):
        with Peer(model, BLOCKS, use_empirical_fisher=True, factor_batch=size.batch, train_batch=size.batch) as peer:
            _least(best, "peer_factors", sum(peer.fit(train)))
            for side, some in sides.items():
                if side == "few" or number == 0:
                    seconds, theirs = peer.score(some, train)
                    _least(best, f"peer_scores_{side}", seconds)
                    best[f"pearson_{side}"] = correlation(exact[side], theirs)
                for rank in ranks if number == 0 and side == "few" else []:  # of many it takes longer than the exact scores
                    seconds, near = peer.score(some, train, rank=rank)
                    _least(best, f"peer_scores_{side}_{rank}", seconds)
                    best[f"peer_correlation_{side}_{rank}"] = correlation(near, theirs)
    return best | two_phases(size, model, train, sides["few"])


def _least(best: dict[str, float], name: str, seconds: float) -> None:
    best[name] = min(seconds, best.get(name, seconds))


def two_phases(size: Size, model: torch.nn.Module, train: torch.Tensor, queries: torch.Tensor) -> dict[str, float]:
    """Seconds that queries and candidates take through one phase and through two."""
    layers, _ = tracked_layers(model, TRACKED)
    names, batches, after = [name for layer in layers for name in layer.names], list(train.split(size.batch)), twin(model)
    with only_trained(model, names), only_trained(after, names):
        first, second = ours(model, batches, layers, "sampled"), ours(after, batches[:4], tracked_layers(after)[0], "sampled")
        phases = TwoPhases(TrainingLoss(model, OBJECTIVE, batches), TrainingLoss(after, OBJECTIVE, batches[:4]), 0.01)
        found = gradients(after, queries, names)
        works: dict[str, Callable[[], Any]] = {
            "query_one": lambda: first.solve(found),
            "query_two": lambda: phases.precondition(found, second, first, known=(names, names)),
        }
        seconds = in_turns(works, 5)
        one, two = works["query_one"](), works["query_two"]().pretraining
        products = {"candidate_one": GradientProducts(one), "candidate_two": GradientProducts(two)}
        return seconds | in_turns({name: partial(scores, model, batches, each) for name, each in products.items()}, 3)


def table(best: dict[str, float], ranks: list[int]) -> list[Row]:
    """What was measured, beside the peer and the floor."""
    rows = [
        _row("ekfac_vs_kronfluence", "factors (empirical labels)", best["factors_empirical"], best["peer_factors"], "1"),
        _row("factors_vs_floor", "factors beside two passes", best["factors_empirical"], 2 * best["pass"], ""),
        _row("sampled_vs_kronfluence", "factors (labels drawn)", best["factors"], best["peer_factors"], ""),
    ]
    for side in ("few", "many"):
        spent = best[f"precondition_{side}"] + best[f"scores_{side}"]
        rows.append(_row(f"scores_{side}_vs_kronfluence", f"scores, {side} queries", spent, best[f"peer_scores_{side}"], "1"))
        for rank in ranks:
            spent = best[f"precondition_{side}_{rank}"] + best[f"scores_{side}_{rank}"]
            close = f"{best[f'correlation_{side}_{rank}']:.3f}"
            if side == "few":
                close += f"; kronfluence's {best[f'peer_correlation_{side}_{rank}']:.3f} in {best[f'peer_scores_{side}_{rank}']:.1f} s"
            rows.append(
                _row(
                    f"rank_{rank}_{side}_vs_kronfluence",
                    f"rank {rank}, {side}: correlation {close}",
                    spent,
                    best[f"peer_scores_{side}"],
                    "",
                )
            )
        rows.append(Row(f"pearson_{side}", f"correlation with kronfluence, {side}", "", "", best[f"pearson_{side}"], "0.999"))
    good = [rank for rank in ranks if best[f"correlation_many_{rank}"] > CLOSE] or ranks[-1:]
    fastest = max(good, key=lambda rank: next(row.value for row in rows if row.key == f"rank_{rank}_many_vs_kronfluence"))
    how = f"low rank: {fastest}, many queries, correlation {best[f'correlation_many_{fastest}']:.3f}"
    rows.append(Row("low_rank_vs_kronfluence", how, "", "",
                    next(row.value for row in rows if row.key == f"rank_{fastest}_many_vs_kronfluence"), "3"))  # fmt: skip
    rows.append(Row("pearson_with_kronfluence", "correlation with kronfluence", "", "", best["pearson_few"], "0.999"))
    ways = ("two_stage_vs_single", "candidates", "candidate", "1"), ("two_stage_query_vs_single", "queries", "query", "2")
    for key, name, what, target in ways:
        two, one = best[f"{what}_two"], best[f"{what}_one"]
        rows.append(Row(key, f"{name}, two phases over one", f"{two:.4f} s", f"{one:.4f} s", two / one, target))
    return [*rows, Row("peak_mb", "peak memory, MB", f"{peak_mb():.0f}", "", peak_mb())]


def _row(key: str, name: str, mine: float, beside: float, target: str) -> Row:
    """How many times as fast."""
    return Row(key, name, f"{mine:.3f} s", f"{beside:.3f} s", beside / mine, target)


def main() -> None:
    """Measure, show, and print JSON."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--quick", action="store_true", help="small, to see that it runs")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--curve", action="store_true", help="over sizes of the model")
    given = options.parse_args()
    quick = Size(32, 2, context=32, examples=40, queries=3, many=6, steps=10, documents=200)
    sizes = [quick] if given.quick else [Size()]
    if given.curve:
        sizes = [Size(dim, layers, examples=100, many=50) for dim, layers in ((64, 2), (128, 4), (256, 6), (384, 8))]
    ranks = [4] if given.quick else [16, 32, 48]
    for size in sizes:
        rows = table(compare(size, 1 if given.quick else given.rounds, ranks), ranks)
        shape = f"{size.examples} examples, {size.queries} and {size.many} queries of {size.context} tokens"
        show(rows, f"{size.layers} layers of {size.dim}: {shape}")
    print_json(rows)


if __name__ == "__main__":
    main()
