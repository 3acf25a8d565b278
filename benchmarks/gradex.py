"""Gradient features and estimates of subsets: `python benchmarks/gradex.py [--quick]`. The last line is JSON.

Gradient features, of 32 rows of a GPT-2-like model, stand beside a plain forward and backward pass over the same rows, a loop of one
backward pass a row, and TRAK's: `torch.func`'s gradient of each row, projected by its `BasicProjector` (`pip install 'dsel[benchmark]'`).
Floor, in matrix products of the size of a forward pass: forward 1, backward to the inputs 1, each row's own weight gradients 1, which is a
plain pass; and one look at each number of those gradients.

Estimates stand beside trainings: the run `experiment=gradex_estimate` with 50 tasks, in which 50 subsets are really trained on, and what
1,000 would take is extrapolated from them. Floor of 1,000 estimates of 50 tasks with 20 rows each, in d = 256 dimensions: the sums of the
tasks' Gram blocks (6.6 GFLOP), a Cholesky factor each (5.6) and two products with all rows for each Newton step (1 each).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from overhead import in_turns, seconds
from table import Row, print_json, show

from dsel.estimator.gradex import LinearEstimate
from dsel.features import Features
from dsel.functional.alignment import trainable
from dsel.functional.example_gradients import project_gradients
from dsel.functional.log_odds import log_odds
from dsel.functional.peak_memory import peak_mb
from dsel.functional.projection import Projection
from dsel.functional.subset_regression import Rows
from dsel.functional.subset_search import random_subsets
from dsel.model.causal_lm import CausalLM
from dsel.objective.instruction import Instruction
from dsel.objective.pairs import Pairs
from dsel.subset import Work

OBJECTIVE = Instruction()


@dataclass(frozen=True)
class Size:
    """Rows of a batch, tokens of either side, the model, the subsets, and rounds of the clock."""

    rows: int = 32
    length: int = 64
    recipe: CausalLM = CausalLM(objective=OBJECTIVE, num_layers=4, dim=128, num_heads=4, context=64)  # noqa: RUF009
    vocabulary: int = 4096
    dim: int = 256
    tasks: int = 50
    rows_a_task: int = 20
    subsets: int = 1000
    trained: int = 50
    rounds: int = 5
    run: tuple[str, ...] = ("data.num_clean=25", "data.num_noisy=25")


QUICK = Size(
    rows=4, length=6, recipe=CausalLM(objective=OBJECTIVE, num_layers=1, dim=16, num_heads=2, context=64), vocabulary=300, dim=16, tasks=6,
    rows_a_task=4, subsets=20, trained=3, rounds=1,
    run=("data.num_clean=3", "data.num_noisy=3", "data.num_target=60", "steps.meta=3", "steps.retrain=2", "model.num_layers=1",
         "trainer=debug", "phases.judge.num_estimated=10", "estimator.dim=16"),
)  # fmt: skip


def outputs(model: torch.nn.Module, batch: Pairs) -> torch.Tensor:
    """The log odds of each row (row,)."""
    return log_odds(OBJECTIVE.token_losses(model, batch), OBJECTIVE.predicted(batch))


def plain(model: torch.nn.Module, batch: Pairs) -> None:
    """Forward and backward of the mean loss, with the gradient by all weights."""
    model.zero_grad()
    (OBJECTIVE.token_losses(model, batch).sum() / OBJECTIVE.predicted(batch).sum()).backward()


def by_loop(model: torch.nn.Module, batch: Pairs, projection: Projection) -> torch.Tensor:
    """A backward pass a row, each projected."""
    found = torch.zeros(len(batch.target), projection.dim)
    parameters = list(trainable(model).values())
    for row in range(len(batch.target)):
        own = outputs(model, Pairs(batch.source[row : row + 1], batch.target[row : row + 1])).sum()
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(own, parameters)])
        projection.add(found[row : row + 1], gradient[None], 0)
    return found


def by_trak(model: torch.nn.Module, batch: Pairs, projector: object) -> torch.Tensor:
    """`torch.func`'s gradients of the rows, as TRAK's gradient computer takes them, and its projector."""
    own = dict(trainable(model))

    def output(parameters: dict[str, torch.Tensor], source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        text = torch.cat([source, target[1:]])[None]
        logits = torch.func.functional_call(model, parameters, (), {"input_ids": text, "use_cache": False}).logits[0]
        losses = torch.nn.functional.cross_entropy(logits[len(source) - 1 : -1], target[1:], reduction="none")
        return log_odds(losses[None], torch.ones_like(losses, dtype=torch.bool)[None])[0]

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        found = torch.func.vmap(torch.func.grad(output), (None, 0, 0))(own, batch.source, batch.target)
    flat = torch.cat([g.flatten(1) for g in found.values()], 1)
    return projector.project(flat.detach(), model_id=0)  # type: ignore[attr-defined]


def measure_features(size: Size) -> list[Row]:
    """Features of one batch."""
    from trak.projectors import BasicProjector, ProjectionType

    torch.manual_seed(0)
    model = size.recipe.build(size.vocabulary).eval()
    sides = [torch.randint(1, size.vocabulary, (size.rows, n)) for n in (size.length, size.length + 1)]
    batch, projection = Pairs(*sides), Projection("sparse", size.dim, 0)
    num_parameters = sum(p.numel() for p in trainable(model).values())
    projector = BasicProjector(num_parameters, size.dim, 0, ProjectionType.rademacher, torch.device("cpu"))
    taken = in_turns(
        {
            "plain": partial(plain, model, batch),
            "ours": lambda: project_gradients(model, OBJECTIVE, batch, projection),
            "loop": partial(by_loop, model, batch, projection),
            "trak": lambda: by_trak(model, batch, projector),
        },
        size.rounds,
    )
    each = {name: f"{1000 * spent / size.rows:.1f} ms a row" for name, spent in taken.items()}
    return [
        Row(
            "features_vs_plain", "features", each["ours"], f"{each['plain']} (forward and backward)", taken["ours"] / taken["plain"], "<= 2"
        ),
        Row("features_vs_loop", "features", each["ours"], f"{each['loop']} (a pass a row)", taken["ours"] / taken["loop"]),
        Row("features_vs_trak", "features", each["ours"], f"{each['trak']} (TRAK's BasicProjector)", taken["ours"] / taken["trak"], "< 1"),
    ]


def measure_subsets(size: Size) -> list[Row]:
    """A thousand estimates from saved features."""
    rng = np.random.default_rng(0)
    num_rows = size.tasks * size.rows_a_task
    features = rng.normal(size=(num_rows + 200, size.dim)).astype(np.float32) / 4
    f = rng.normal(1.0, 1.0, num_rows + 200)
    rows = Rows(features[:num_rows], f[:num_rows], np.repeat(np.arange(size.tasks), size.rows_a_task), size.tasks)
    estimate = LinearEstimate(rows, Features(features[num_rows:], f[num_rows:], Work()), 1e-3, Work())
    subsets = random_subsets(size.tasks, size.tasks // 3, size.subsets, 0)
    spent = min(seconds(lambda: estimate(subsets)) for _ in range(size.rounds))
    floor = estimate.flops(size.subsets) / 1e9
    return [Row("subsets_1000_s", f"{size.subsets:,} subsets of {size.tasks} tasks", f"{spent:.2f} s", f"{floor:.1f} GFLOP", spent, "< 10")]


def measure_run(size: Size) -> list[Row]:
    """Estimating beside training, end to end."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "dsel.run", "experiment=gradex_estimate", "hydra.mode=RUN", "arm=gradex", "seed=0", *size.run]
        command += [f"phases.judge.num_subsets={size.trained}", "phases.judge.num_repeated=0", f"paths.outputs={folder}"]
        subprocess.run(command, check=True, stdout=sys.stderr, env=dict(os.environ))
        (result,) = Path(folder, "runs").rglob("result.json")
        found = json.loads(result.read_text())
    metrics, trained = found["metrics"], found["cost"]["phases"]["judge"]
    beside = f"{size.trained} real trainings, extrapolated to {metrics['num_estimated']:,.0f}"
    ours = f"{trained['seconds']:.0f} s with the trainings"
    return [
        Row("speedup_vs_training", "subsets, features included", ours, beside, metrics["speedup"], ">= 30"),
        Row("speedup_vs_training_flops", "the same in operations", "", beside, metrics["speedup_flops"]),
    ]


def main() -> None:
    """Everything, a table, and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    size = QUICK if parser.parse_args().quick else Size()
    rows = [*measure_features(size), *measure_subsets(size), *measure_run(size)]
    rows.append(Row("peak_mb", "peak memory of this process", f"{peak_mb():,.0f} MB", "", peak_mb()))
    show(rows)
    print_json(rows)


if __name__ == "__main__":
    main()
