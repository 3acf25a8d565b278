"""Influence beside retraining where both phases are trained to the last digit: `python experiments/influence_retraining/classifier.py`.

Documents of installed packages as hashed n-grams, an embedding tanh(W x + b), and a head each for pretraining (which of six packages) and
for fine-tuning (which of three others). For 100 documents of pretraining, one at a time, both phases are trained again without it, by
Newton's method in float64, in both scenarios of arXiv 2007.09081. The table has, over three seeds (documents and weights), the correlation
of what each method says of a query with what becomes of its loss, over documents, mean over queries. `--share 0.05` takes a
twentieth of a document away: then only the first order is left. `--json FILE` writes all of it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table

from dsel.data.installed_docs import InstalledDocs
from dsel.functional.alignment import trainable
from dsel.functional.correlation import pearson, spearman
from dsel.functional.curvature import TrainingLoss, Vectors
from dsel.functional.gradient_products import GradientProducts, example_gradients
from dsel.functional.inverse_curvature import ByConjugateGradient, Dense, InverseCurvature, Lissa
from dsel.functional.kronecker import Kronecker, fit_factors
from dsel.functional.ngram_vectors import NgramVectors
from dsel.functional.ngrams import Ngrams
from dsel.functional.tracked import only_trained, tracked_layers
from dsel.functional.two_phase import TwoPhases
from dsel.objective.labelling import Labelling, Rows
from dsel.pool import DOMAIN

BEFORE = ("scipy", "sympy", "stdlib", "sklearn", "torchmetrics", "pyarrow")
AFTER = ("networkx", "pandas", "numpy")
DIM, HIDDEN, PENALTY = 32, 8, 3e-2
SCENARIOS = {"fixed embedding": None, "updated embedding": 0.05}
OBJECTIVE = Labelling()
Floats = npt.NDArray[np.float64]
Inverse = Callable[[TrainingLoss, Mapping[str, float]], InverseCurvature]


@dataclass(frozen=True)
class Data:
    """Rows of both phases, and queries."""

    before: Rows
    after: Rows
    queries: Rows


class Classifier(torch.nn.Module):
    """An embedding and a head; heads of different names belong to different phases."""

    def __init__(self, head: str, num_classes: int) -> None:
        super().__init__()
        self.embedding, self.head = torch.nn.Linear(DIM, HIDDEN), head
        self.add_module(head, torch.nn.Linear(HIDDEN, num_classes))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Logits (row, class)."""
        logits: torch.Tensor = getattr(self, self.head)(torch.tanh(self.embedding(rows)))
        return logits


def read(seed: int, per_class: int, num_queries: int) -> Data:
    """Documents drawn by `seed`."""
    parts = {}
    for side, names in (("before", BEFORE), ("after", AFTER)):
        table = InstalledDocs(names[0], list(names[1:]), min_characters=150, max_characters=600, seed=seed).read()
        texts = {name: (table.target if name == names[0] else table.source) for name in names}
        rng, rows, labels = np.random.default_rng(seed), [], []
        for label, name in enumerate(names):
            own = texts[name].filter(np.array(texts[name][DOMAIN].to_pylist()) == name)
            count = per_class if side == "before" else per_class // 2
            own = own.take(np.sort(rng.choice(own.num_rows, count, replace=False)))
            rows.append(own)
            labels += [label] * count
        vectors = np.concatenate([NgramVectors(Ngrams(1, 2**18), DIM)(own) for own in rows]).astype(np.float64)
        order = rng.permutation(len(vectors))
        parts[side] = Rows(torch.from_numpy(5 * vectors[order]), torch.tensor(labels)[torch.from_numpy(order)])
    last = slice(-num_queries, None)
    after = Rows(parts["after"].tokens[:-num_queries], parts["after"].labels[:-num_queries])
    return Data(parts["before"], after, Rows(parts["after"].tokens[last], parts["after"].labels[last]))


def minimise(model: Classifier, rows: Rows, weights: torch.Tensor, proximity: float, anchor: Mapping[str, torch.Tensor]) -> float:
    """Newton's method on the weighted mean loss + PENALTY/2 |trained|^2 + proximity |anchored - anchor|^2; returns the gradient's norm."""
    parameters = trainable(model)
    shapes = {name: p.shape for name, p in parameters.items()}
    others = {name: p.detach() for name, p in model.named_parameters() if name not in parameters}

    def split(flat: torch.Tensor) -> dict[str, torch.Tensor]:
        parts = torch.split(flat, [shape.numel() for shape in shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}

    def total(flat: torch.Tensor) -> torch.Tensor:
        own = split(flat)
        logits = torch.func.functional_call(model, {**others, **own}, (rows.tokens,))
        losses = torch.nn.functional.cross_entropy(logits, rows.labels, reduction="none")
        pulled = [proximity * (own[name] - at).square().sum() for name, at in anchor.items() if name in own]
        return (losses * weights).mean() + 0.5 * PENALTY * flat.square().sum() + (torch.stack(pulled).sum() if pulled else 0.0)

    flat = torch.cat([p.detach().flatten() for p in parameters.values()])
    slope = torch.func.grad(total)(flat)
    for _ in range(300):
        if slope.norm() < 1e-10:
            break
        values, basis = torch.linalg.eigh(torch.func.hessian(total)(flat))
        step = basis @ ((basis.T @ slope) / values.abs().clamp_min(1e-5))
        size, here = 1.0, total(flat)
        while total(flat - size * step) > here and size > 1e-8:
            size /= 2
        flat = flat - size * step
        slope = torch.func.grad(total)(flat)
    with torch.no_grad():
        for name, value in split(flat).items():
            parameters[name].copy_(value)
    return float(slope.norm())


def copy_of(model: Classifier) -> Classifier:
    """The same weights."""
    copied = Classifier(model.head, getattr(model, model.head).out_features).double()
    copied.load_state_dict(model.state_dict())
    return copied


def pretrain(data: Data, weights: torch.Tensor, start: Classifier) -> Classifier:
    """From `start` to the optimum."""
    model = copy_of(start)
    minimise(model, data.before, weights, 0.0, {})
    return model


def finetune(data: Data, before: Classifier, start: Classifier, proximity: float | None) -> Classifier:
    """From `start`, with the embedding of `before` fixed (None) or pulled towards it."""
    model = copy_of(start)
    anchor = {name: p.detach().clone() for name, p in before.named_parameters() if name.startswith("embedding")}
    if proximity is None:
        with torch.no_grad():
            for name, value in anchor.items():
                dict(model.named_parameters())[name].copy_(value)
    model.embedding.requires_grad_(proximity is not None)
    minimise(model, data.after, torch.ones(len(data.after.labels)).double(), proximity or 0.0, anchor)
    return model


def query_losses(model: Classifier, data: Data) -> torch.Tensor:
    """(query,)."""
    with torch.no_grad():
        return OBJECTIVE.token_losses(model, data.queries)[:, 0]


def kronecker(labels: str, is_corrected: bool) -> Inverse:
    """An inverse by factors; what is on the diagonal, of the penalty and of the proximity, is its damping."""

    def make(loss: TrainingLoss, damping: Mapping[str, float]) -> InverseCurvature:
        plain = TrainingLoss(loss.model, loss.objective, loss.batches)
        factors = fit_factors(plain, tracked_layers(loss.model)[0], labels, 0, is_corrected)
        return Kronecker(factors, lambda name, mean: PENALTY + damping[name])

    return make


class Nothing:
    """The inverse of the identity."""

    def __init__(self) -> None:
        self.reports: list[object] = []

    def solve(self, vectors: Vectors) -> Vectors:
        """The vectors themselves."""
        return dict(vectors)


METHODS: dict[str, Inverse] = {
    "Hessian, explicit": lambda loss, damping: Dense(loss, damping, "hessian"),
    "Gauss-Newton, explicit": lambda loss, damping: Dense(loss, damping, "gauss_newton"),
    "Gauss-Newton, 100 CG steps": lambda loss, damping: ByConjugateGradient(loss, damping, "gauss_newton", 100, 1e-8),
    "Gauss-Newton, LiSSA": lambda loss, damping: Lissa(loss, damping, 0, num_steps=2000),
    "EK-FAC": kronecker("exact", is_corrected=True),
    "EK-FAC, sampled labels": kronecker("sampled", is_corrected=True),
    "K-FAC": kronecker("exact", is_corrected=False),
}


def predicted(data: Data, before: Classifier, after: Classifier, proximity: float | None, make: Inverse) -> Floats:
    """The rise of each query's loss when each document is left out (document, query)."""
    phases = TwoPhases(
        TrainingLoss(before, OBJECTIVE, [data.before], PENALTY), TrainingLoss(after, OBJECTIVE, [data.after], PENALTY), proximity or 0.0
    )
    queries = example_gradients(after, OBJECTIVE, data.queries, [name for name, _ in after.named_parameters()])
    inverses = make(phases.finetuning, phases.finetuning_damping(0.0)), make(phases.pretraining, dict.fromkeys(trainable(before), 0.0))
    found = phases.precondition(queries, *inverses)
    scores: Floats = GradientProducts(found.pretraining)(before, OBJECTIVE, data.before).numpy()
    return scores / len(data.before.labels)


def gradient_dots(data: Data, before: Classifier, after: Classifier) -> dict[str, Floats]:
    """Inner products and cosines of gradients by the embedding."""
    shared = [name for name, _ in before.named_parameters() if name.startswith("embedding")]
    with only_trained(before, shared), only_trained(after, shared):
        theirs, mine = example_gradients(before, OBJECTIVE, data.before, shared), example_gradients(after, OBJECTIVE, data.queries, shared)
    a, b = (torch.cat([part[name].flatten(1) for name in shared], 1) for part in (theirs, mine))
    unit = torch.nn.functional.normalize
    return {"gradient dot": (a @ b.T).numpy(), "gradient cosine": (unit(a) @ unit(b).T).numpy()}


def run(seed: int, num_removed: int, per_class: int, num_queries: int, share: float) -> list[dict[str, object]]:
    """Correlations of every method and scenario."""
    data = read(seed, per_class, num_queries)
    count = len(data.before.labels)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        heads = Classifier("first", len(BEFORE)).double(), Classifier("second", len(AFTER)).double()
    before = pretrain(data, torch.ones(count).double(), heads[0])
    afters = {name: finetune(data, before, heads[1], proximity) for name, proximity in SCENARIOS.items()}
    removed = np.random.default_rng(seed).permutation(count)[:num_removed]
    rises: dict[str, list[torch.Tensor]] = {name: [] for name in SCENARIOS}
    for document in removed:
        weights = torch.ones(count).double()
        weights[document] -= share
        again = pretrain(data, weights, before)
        for name, proximity in SCENARIOS.items():
            after = finetune(data, again, afters[name], proximity)
            rises[name].append((query_losses(after, data) - query_losses(afters[name], data)) / share)
    found: list[dict[str, object]] = []
    for name, proximity in SCENARIOS.items():
        after, true = afters[name], torch.stack(rises[name]).numpy()
        said = {method: predicted(data, before, after, proximity, make) for method, make in METHODS.items()}
        said |= gradient_dots(data, before, after)
        said["random"] = np.random.default_rng(seed).normal(size=(count, num_queries))
        for method, values in said.items():
            pairs = list(zip(values[removed].T, true.T, strict=True))
            slope = float(np.vdot(values[removed], true) / np.vdot(true, true))
            found.append({
                "seed": seed, "scenario": name, "method": method, "pearson": float(np.mean([pearson(*pair) for pair in pairs])),
                "spearman": float(np.mean([spearman(*pair) for pair in pairs])), "slope": slope,
            })  # fmt: skip
    return found


def main() -> None:
    """Run, show a table, write JSON."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--removed", type=int, default=100)
    options.add_argument("--per-class", type=int, default=80)
    options.add_argument("--queries", type=int, default=20)
    options.add_argument(
        "--share", type=float, default=1.0, help="of a document's weight that is taken away; what it does is divided by it"
    )
    options.add_argument("--json", type=Path)
    given = options.parse_args()
    started, found = time.monotonic(), []
    for seed in range(given.seeds):
        found += run(seed, given.removed, given.per_class, given.queries, given.share)
        print(f"seed {seed}: {time.monotonic() - started:.0f} s so far", flush=True)
    table = Table("scenario", "method", "Pearson", "Spearman", "slope")
    for scenario in SCENARIOS:
        for method in dict.fromkeys(str(each["method"]) for each in found):
            own = [each for each in found if (each["scenario"], each["method"]) == (scenario, method)]
            told = []
            for key in ("pearson", "spearman", "slope"):
                values = np.array([each[key] for each in own], float)
                spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
                told.append(f"{values.mean():.3f}{spread}" if key != "slope" or "-" in method or "Hess" in method else "")
            table.add_row(scenario, method, *told)
    Console(width=120).print(table)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
