"""What dsel costs on top of the arithmetic: `python benchmarks/overhead.py [--quick]`.

Each number stands beside its floor, measured in the same run, in turns: a machine that slows down slows both. The last line is JSON.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from table import Row, print_json, show

from dsel.artifact import Store, fingerprint
from dsel.data.installed_docs import InstalledDocs
from dsel.executor.local import Local
from dsel.functional.blocks import flat_tokens, gather_blocks, num_blocks
from dsel.functional.peak_memory import peak_mb
from dsel.functional.schedule import multiplier
from dsel.model.causal_lm import CausalLM
from dsel.objective.blocks import Blocks
from dsel.objective.language_modeling import LanguageModeling
from dsel.phase.score import SHARD_SIZE, map_pool
from dsel.pool import TOKENS, Pool, fingerprint_table
from dsel.protocol import FittedScore
from dsel.scorer.cds import LossDifference
from dsel.scorer.perplexity import MeanLogLikelihood
from dsel.tokens import tokenize
from dsel.training.fit import Plan, fit

PACKAGES = ("sklearn", "scipy")  # documents of all lengths, from a line up
CHARACTERS = 2000  # of a document
TOKENS_PER_BATCH = 2048
OBJECTIVE = LanguageModeling()
OPTIMIZER = partial(torch.optim.AdamW, lr=2e-3, weight_decay=0.01, betas=(0.9, 0.95))


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    documents: int = 1024  # four shards: less hangs on how evenly the last ones fall to the cores
    steps: int = 30
    rounds: int = 3
    starts: int = 5
    copies: int = 4  # of the documents, in the smaller pool of the measurement of memory


QUICK = Size(documents=30, steps=2, rounds=1, starts=1, copies=1)


@cache
def make_pool(documents: int) -> tuple[CausalLM, Pool, int]:
    """The model's recipe, a pool of installed documentation with tokens, and the size of the vocabulary."""
    model = CausalLM()
    data = InstalledDocs("networkx", list(PACKAGES), max_characters=CHARACTERS, max_documents=documents, max_target=1, num_workers=1)
    table = data.read().source
    pool = Pool("source", table, fingerprint_table(table))
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = model.tokenizer(pool)
        tokenized = tokenize(pool, tokenizer, OBJECTIVE.sides, Store(Path(folder)), fingerprint("benchmark"))
        table = tokenized.table.combine_chunks()
    return model, Pool("source", table, pool.fingerprint), len(tokenizer)


def make_model(recipe: CausalLM, vocabulary: int, seed: int = 0) -> torch.nn.Module:
    """A model with random weights."""
    torch.manual_seed(seed)
    return recipe.build(vocabulary)


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turns(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, measured A B A B, after one round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            spent = seconds(work)
            if number:
                taken[name].append(spent)
    return {name: statistics.median(spent) for name, spent in taken.items()}


def train_bare(model: torch.nn.Module, batches: Blocks, steps: int) -> None:
    """The floor: the loop that one would write by hand."""
    model.train()
    optimizer = OPTIMIZER(model.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(multiplier, schedule="cosine", warmup=10, total=steps))
    for step in range(steps):
        tokens = batches[step]
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def train_ours(model: torch.nn.Module, batches: Blocks, steps: int) -> None:
    """The same steps by `fit`: Lightning, curve and progress included, without measuring on held-out data."""
    trainer = partial(pl.Trainer, accelerator="cpu", devices=1, gradient_clip_val=1.0)
    plan = Plan(steps, schedule="cosine", warmup=10, every=steps)
    fit(model, OBJECTIVE, batches, plan, OPTIMIZER, trainer, lambda _: {}, "benchmark", 0)


def measure_training(size: Size) -> Row:
    """Tokens a second in training, over those of the bare loop."""
    recipe, pool, vocabulary = make_pool(size.documents)
    batches = Blocks({"source": (pool, 1.0)}, recipe.context, 16, 0)
    models = {name: make_model(recipe, vocabulary) for name in ("ours", "bare")}
    works = {
        "ours": lambda: train_ours(models["ours"], batches, size.steps),
        "bare": lambda: train_bare(models["bare"], batches, size.steps),
    }
    spent = in_turns(works, size.rounds)
    tokens = size.steps * 16 * recipe.context
    rates = {name: tokens / spent[name] for name in spent}
    floor = f"{rates['bare']:,.0f} tokens/s, {size.steps} steps of {16 * recipe.context} tokens in a bare loop"
    return Row("train_vs_bare", "training", f"{rates['ours']:,.0f} tokens/s", floor, rates["ours"] / rates["bare"], ">= 0.95")


def dense_passes(models: list[torch.nn.Module], pool: Pool, context: int) -> None:
    """The floor: each model once over the same tokens in full blocks, without a document's ends or padding."""
    flat, _ = flat_tokens(pool.table[TOKENS])
    total, rows = num_blocks(len(flat), context), TOKENS_PER_BATCH // context
    with torch.inference_mode():
        for first in range(0, total, rows):
            batch = torch.from_numpy(gather_blocks(flat, np.arange(first, min(first + rows, total)), context))
            for model in models:
                OBJECTIVE.token_losses(model, batch).sum(1, dtype=torch.float64).numpy()


def measure_scoring(size: Size) -> Row:
    """The contrastive score over a ragged pool, beside two dense passes."""
    models, pool, context = prepare_scoring(size, 2)
    return beside_dense("cds", LossDifference(*models, OBJECTIVE, context, TOKENS_PER_BATCH), models, pool, size.rounds, context)


def measure_perplexity(size: Size) -> Row:
    """The score by one model, beside one dense pass."""
    models, pool, context = prepare_scoring(size, 1)
    return beside_dense(
        "perplexity", MeanLogLikelihood(*models, OBJECTIVE, context, TOKENS_PER_BATCH, 0.0), models, pool, size.rounds, context
    )


def prepare_scoring(size: Size, num_models: int) -> tuple[list[torch.nn.Module], Pool, int]:
    """Models with random weights, a pool with tokens, and the models' context."""
    recipe, pool, vocabulary = make_pool(size.documents)
    return [make_model(recipe, vocabulary, seed).eval().requires_grad_(False) for seed in range(num_models)], pool, recipe.context


def beside_dense(name: str, score: FittedScore, models: list[torch.nn.Module], pool: Pool, rounds: int, context: int) -> Row:
    """Seconds a predicted token of `score` over those of dense passes."""
    works = {
        "ours": lambda: map_pool(Local(), score, pool, [TOKENS], "score", SHARD_SIZE),
        "dense": lambda: dense_passes(models, pool, context),
    }
    spent = in_turns(works, rounds)
    lengths = pool.token_counts()
    predicted, dense = int(np.maximum(lengths - 1, 0).sum()), num_blocks(int(lengths.sum()), context) * context
    rates = {"ours": predicted / spent["ours"], "dense": dense / spent["dense"]}
    floor = f"{spent['dense']:.2f} s, {len(models)} forward passes over {dense:,} tokens in full blocks ({rates['dense']:,.0f} tokens/s)"
    ours = f"{spent['ours']:.2f} s for {len(pool):,} documents, {predicted:,} tokens"
    return Row(f"{name}_vs_dense", f"scores by {name}", ours, floor, rates["dense"] / rates["ours"], "<= 1.10")


def measure_startup(size: Size) -> Row:
    """Seconds until `dsel` answers: the slower of --help and a mistake in a key."""
    bare = [sys.executable, "-c", "import hydra"]
    commands = {
        name: [sys.executable, "-m", "dsel.run", *rest] for name, rest in {"help": ["--help"], "typo": ["scorer.num_stepz=1"]}.items()
    }
    works = {
        name: partial(subprocess.run, command, capture_output=True, check=False)
        for name, command in {**commands, "import hydra": bare}.items()
    }
    spent = in_turns(works, size.starts)
    slower = max(spent["help"], spent["typo"])
    return Row(
        "startup_s",
        "until dsel answers, seconds",
        f"--help {spent['help']:.2f} s, typo {spent['typo']:.2f} s",
        f"import hydra {spent['import hydra']:.2f} s",
        slower,
        "<= 1.5",
    )


def write_pool(documents: int, times: int, path: Path) -> None:
    """An Arrow file of the pool's tokens, `times` over."""
    import pyarrow as pa

    from dsel.pool import write_table

    _, pool, _ = make_pool(documents)
    write_table(pa.concat_tables([pool.table.select([TOKENS])] * times), path)


def score_file(path: Path, vocabulary: int) -> None:
    """In a process of its own: score the pool in a file, and print the peak of memory in MB."""
    from dsel.pool import read_table

    recipe = CausalLM(num_layers=1, dim=32, num_heads=2)
    models = [make_model(recipe, vocabulary, seed).eval().requires_grad_(False) for seed in (0, 1)]
    table = read_table(path)
    score = LossDifference(*models, OBJECTIVE, recipe.context, TOKENS_PER_BATCH)
    map_pool(Local(), score, Pool("source", table, ""), [TOKENS], "score", 1024)
    print(peak_mb())


def measure_memory(size: Size) -> list[Row]:
    """Peak memory of scoring a pool, and one four times as large."""
    found = {}
    _, _, vocabulary = make_pool(size.documents)
    with tempfile.TemporaryDirectory() as folder:
        for times in (1, 4):
            path = Path(folder) / f"{times}.arrow"
            write_pool(size.documents, times * size.copies, path)
            command = [sys.executable, __file__, "--score", str(path), "--vocabulary", str(vocabulary)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[f"scoring_mb_{times}x"] = float(done.stdout.splitlines()[-1])
    once, four = found["scoring_mb_1x"], found["scoring_mb_4x"]
    return [
        Row("scoring_mb_1x", "peak memory of scoring a pool", f"{once:,.0f} MB", "", once),
        Row(
            "scoring_mb_4x",
            "and one four times as large",
            f"{four:,.0f} MB",
            f"{once:,.0f} MB",
            four,
            "<= 1.05 times that",
        ),
    ]


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; shows that it works, not how fast")
    parser.add_argument("--score", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--vocabulary", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.score:
        score_file(options.score, options.vocabulary)
        return
    size = QUICK if options.quick else Size()
    rows = [measure_startup(size), measure_training(size), measure_scoring(size), measure_perplexity(size), *measure_memory(size)]
    show(rows, f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    print_json(rows)


if __name__ == "__main__":
    main()
