"""A training step that masks by gradients beside a plain one: `python benchmarks/masked_step.py [--quick] [--device cuda]`.

Both see the same tokens: those that are trained on and those of the clean batch. `--ghostsuite FOLDER` measures the public
implementation of arXiv 2406.11011, cloned there, beside ours: its products and the gradient of all examples, of which it can drop none.
The last line is JSON.

Floor of a step that masks examples, in matrix products of the size of a forward pass over all rows (a plain step is 3): forward 1, backward
to the inputs 1, the clean gradient and the products with it (clean share + train share) or the pairs of tokens, and the weight gradient of
what is kept. With a clean batch of a quarter of the train tokens and nothing dropped that is at most 3.8 of 3, with half dropped 3.4.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
from overhead import in_turns, seconds
from table import Row, print_json, show

from dsel.functional.alignment import trainable
from dsel.functional.peak_memory import peak_mb
from dsel.model.seq2seq import Seq2Seq
from dsel.objective.pairs import Pairs
from dsel.objective.translation import Translation
from dsel.training.step import Step

OBJECTIVE = Translation()
RECIPE = Seq2Seq(num_layers=6, dim=512, ffn_dim=2048, num_heads=8, dropout=0.0)  # the paper's size


@dataclass(frozen=True)
class Size:
    """A batch, the model's vocabulary, and rounds of the clock."""

    pairs: int = 32
    length: int = 32  # tokens of either side
    vocabulary: int = 8000
    rounds: int = 5
    recipe: Seq2Seq = RECIPE


QUICK = Size(pairs=16, length=6, vocabulary=300, rounds=1, recipe=Seq2Seq(num_layers=1, dim=16, ffn_dim=32, num_heads=2, dropout=0.0))


@cache
def make(size: Size, clean_share: float, device: str) -> tuple[torch.nn.Module, Pairs, Pairs]:
    """A model with random weights, a batch, and a clean one."""
    torch.manual_seed(0)
    model = size.recipe.build(size.vocabulary).to(device)
    rows = size.pairs, round(size.pairs * clean_share)
    batch, clean = (
        Pairs(torch.randint(4, size.vocabulary, (n, size.length)), torch.randint(4, size.vocabulary, (n, size.length + 1))).to(device)
        for n in rows
    )
    return model, batch, clean


def plain(size: Size, clean_share: float, device: str) -> None:
    """Forward and backward over both batches together."""
    model, batch, clean = make(size, clean_share, device)
    joint = OBJECTIVE.join([batch, clean])
    model.zero_grad()
    losses = OBJECTIVE.token_losses(model, joint)
    (losses.sum() / OBJECTIVE.predicted(joint).sum()).backward()
    _wait(device)


def masked(method: str, per_token: bool, drop: float, size: Size, clean_share: float, device: str) -> None:
    """The same for a step that leaves out the share `drop` of the batch, that which is aligned least."""
    model, batch, clean = make(size, clean_share, device)
    model.zero_grad()
    step = Step(model, OBJECTIVE, batch, clean, 0)
    alignment = step.align(method, per_token)
    weights = (alignment > -torch.inf if drop == 0 else alignment > alignment.quantile(drop)).float()
    step.loss(weights, step.predicted.sum()).backward()
    assert all(p.grad is not None for p in trainable(model).values())
    _wait(device)


class GhostSuite:
    """Its step on the same tokens, and what it takes for the products. It says nothing of weights that are tied."""

    def __init__(self, folder: Path, size: Size, clean_share: float, device: str) -> None:
        sys.path.insert(0, str(folder))
        from ghostEngines import GradDotProdEngine

        model, batch, clean = make(size, clean_share, device)
        self.model, self.joint, self.device = copy.deepcopy(model), OBJECTIVE.join([batch, clean]), device
        self.engine = GradDotProdEngine(module=self.model, val_batch_size=len(clean.target), loss_reduction="mean")
        self.engine.attach(torch.optim.SGD(self.model.parameters(), lr=0.1))

    def __call__(self) -> torch.Tensor:
        """Products (example,)."""
        self.model.zero_grad()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its hooks at embeddings
            losses = OBJECTIVE.token_losses(self.model, self.joint)
            (losses.sum() / OBJECTIVE.predicted(self.joint).sum()).backward()
        found = torch.stack([p.grad_dot_prod for p in self.model.parameters() if hasattr(p, "grad_dot_prod")]).sum(0)
        self.engine.prepare_gradients()
        self.engine.clear_gradients()
        _wait(self.device)
        return found


def measure_ghostsuite(folder: Path, size: Size, device: str) -> list[Row]:
    """Seconds of both, in turns, and how the products go with those of the loop."""
    share = 1 / 4
    theirs, ours = GhostSuite(folder, size, share, device), partial(masked, "ghost", False, 0.0, size, share, device)
    spent = in_turns({"ours": ours, "theirs": theirs}, size.rounds)
    model, batch, clean = make(size, share, device)
    exact, found = (Step(model, OBJECTIVE, batch, clean, 0).align(method, False) for method in ("loop", "ghost"))
    told = f"{spent['ours']:.3f} s, GhostSuite {spent['theirs']:.3f} s"
    return [
        Row("sentence_vs_ghostsuite", "sentence, beside GhostSuite", told, "", spent["ours"] / spent["theirs"], "<= 1"),
        Row("correlation_with_loop", "correlation with the loop", "ghost product", "", _correlation(found, exact), ">= 0.9999"),
        Row("ghostsuite_correlation_with_loop", "the same", "GhostSuite", "", _correlation(theirs(), exact)),
    ]


def _correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


WORKS: Mapping[str, tuple[float, Callable[[Size, float, str], None]]] = {
    "sentence": (1 / 4, partial(masked, "ghost", False, 0.0)),
    "sentence_half_dropped": (1 / 4, partial(masked, "ghost", False, 0.5)),
    "sentence_small_clean": (1 / 16, partial(masked, "ghost", False, 0.0)),
    "sentence_small_clean_half_dropped": (1 / 16, partial(masked, "ghost", False, 0.5)),
    "token": (1 / 4, partial(masked, "jvp", True, 0.0)),
    "loop": (1 / 4, partial(masked, "loop", False, 0.0)),
}
PLAIN = {1 / 4: "plain", 1 / 16: "plain_small_clean"}
TARGETS = {"sentence": "<= 1.3", "sentence_small_clean": "<= 1.15", "token": "<= 1.6"}


def measure(size: Size, device: str) -> list[Row]:
    """Seconds of each step over those of a plain one over the same tokens, all in turns."""
    works = {name: partial(work, size, share, device) for name, (share, work) in WORKS.items()}
    loop = works.pop("loop")  # minutes: once, and not in between
    works |= {name: partial(plain, size, share, device) for share, name in PLAIN.items()}
    spent = in_turns(works, size.rounds) | {"loop": seconds(loop)}
    rows = []
    for name, (share, _) in WORKS.items():
        beside = PLAIN[share]
        told = f"{spent[name]:.3f} s, clean batch of 1/{1 / share:.0f}"
        rows.append(
            Row(f"{name}_vs_plain", name, told, f"{beside} {spent[beside]:.3f} s", spent[name] / spent[beside], TARGETS.get(name, ""))
        )
    return rows


def measure_peaks(quick: bool, device: str) -> list[Row]:
    """Peak memory of one step each, in a process of its own."""
    rows = []
    for name in (*WORKS, *PLAIN.values()):
        command = [sys.executable, __file__, "--one", name, "--device", device, *["--quick"] * quick]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        peak = float(done.stdout.splitlines()[-1])
        rows.append(Row(f"{name}_peak_mb", f"peak memory: {name}", f"{peak:,.0f} MB", "", peak))
    return rows


def run_one(name: str, size: Size, device: str) -> None:
    """One step twice, and the peak of the process's memory, or of the device's."""
    plains = {beside: (share, plain) for share, beside in PLAIN.items()}
    share, work = {**WORKS, **plains}[name]
    for _ in range(2):
        work(size, share, device)
    print(torch.cuda.max_memory_allocated() / 1024**2 if device == "cuda" else peak_mb())


def main() -> None:
    """Measure, print the table, and last a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; shows that it works, not how fast")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--ghostsuite", type=Path, metavar="FOLDER", help="a clone of github.com/Jiachen-T-Wang/GhostSuite")
    parser.add_argument("--one", choices=[*WORKS, *PLAIN.values()], help=argparse.SUPPRESS)
    given = parser.parse_args()
    size = QUICK if given.quick else Size()
    if given.one:
        run_one(given.one, size, given.device)
        return
    rows = measure(size, given.device) + measure_peaks(given.quick, given.device)
    if given.ghostsuite:
        rows += measure_ghostsuite(given.ghostsuite, size, given.device)
    show(rows, f"{size.pairs} pairs of {size.length} tokens, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print_json(rows)


if __name__ == "__main__":
    main()
