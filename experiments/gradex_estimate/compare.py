"""Our estimates, those of the authors' notebook, and the truth, on the same models and subsets of addition groups:

    PYTHONPATH=experiments/gradex_estimate python experiments/gradex_estimate/compare.py NOTEBOOK.ipynb RESULT.json ...

RESULT.json are results of `experiment=gradex_estimate arm=gradex`, a seed each, whose artifacts are still there. Prints, over the seeds:
estimates for mostly clean and mostly noisy subsets (the notebook's two examples), how well 200 random subsets, as large as those judged,
tell clean groups from noisy ones, and the rank correlation with the truth on the run's judged subsets.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from released import Released

from dsel.artifact import Store
from dsel.build import build
from dsel.estimator.gradex import GradEx
from dsel.estimator.gradient_cosine import GradientCosine
from dsel.functional.correlation import spearman
from dsel.functional.ranking import roc_auc
from dsel.functional.subset_search import affinities, random_subsets
from dsel.phase.score import make_context
from dsel.pipeline import Run
from dsel.protocol import SubsetEstimator
from dsel.report.aggregate import pm

MIXES = {"8 clean + 1 noisy": (8, 1), "1 clean + 8 noisy": (1, 8)}  # 200 + 25 and 25 + 200 rows


def mixed(is_noisy: npt.NDArray[np.bool_], counts: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """So many clean and noisy groups, drawn at random."""
    mask = np.zeros(len(is_noisy), bool)
    for kind, count in zip((False, True), counts, strict=True):
        groups = np.flatnonzero(is_noisy == kind)
        mask[rng.permutation(groups)[: min(count, len(groups))]] = True
    return mask


def compare(result: Path, estimators: Mapping[str, SubsetEstimator]) -> dict[str, dict[str, float]]:
    """By estimator (and "truth"), the figures of one run."""
    told = json.loads(result.read_text())
    judged = pq.read_table(result.parent / told["artifacts"]["judge"] / "judged.parquet")
    config: dict[str, Any] = {**told["config"], "pipeline": ["meta"]}
    run, store = Run(config), Store((result.parent / told["artifacts"]["meta"]).resolve().parent)
    state, world = run.fold(store), replace(run.world(store), name="judge")
    context = make_context(build(config["phases"]["judge"]["tune"]), state, world, world.tokenized)
    source, target = world.tokenized(world.corpus.source), world.tokenized(world.corpus.target)
    names, numbers = source.tasks()
    is_noisy = np.array([name.startswith("noisy") for name in names])
    rng = np.random.default_rng(told["seed"])
    mixes = np.stack([mixed(is_noisy, counts, rng) for counts in MIXES.values()])
    own = np.array([np.isin(names, each) for each in judged["tasks"].to_pylist()])
    ensemble = random_subsets(len(names), int(own[0].sum()), 200, told["seed"])
    true = [context.fine_tune(source.take(np.flatnonzero(mask[numbers]), "subset"), target).losses.mean() for mask in mixes]
    found = {"truth": dict(zip(MIXES, map(float, true), strict=True))}
    for label, estimator in estimators.items():
        estimate = estimator.fit(source, target, context)
        scores = affinities(ensemble, estimate(ensemble).mean(1))
        found[label] = dict(zip(MIXES, estimate(mixes).mean(1).tolist(), strict=True))
        found[label]["AUC of the ensemble"] = roc_auc(scores, is_noisy)
        found[label]["Spearman"] = spearman(estimate(own).mean(1), judged["truth"].to_numpy())
    return found


def main() -> None:
    """The table."""
    logging.getLogger("dsel").setLevel(logging.WARNING)
    notebook, *results = sys.argv[1:]
    estimators: dict[str, SubsetEstimator] = {
        "gradex": GradEx(),
        "gradex, moved": GradEx(evaluate_by="forward"),
        "gradex, moved by 2 %": GradEx(evaluate_by="forward", scale=0.02),
        "released notebook": Released(notebook),
        "gradient_cosine": GradientCosine(),
    }
    found = [compare(Path(result), estimators) for result in results]
    columns = [*MIXES, "AUC of the ensemble", "Spearman"]
    print(f"| | {' | '.join(columns)} |\n|:--|{'--:|' * len(columns)}")
    for label in found[0]:
        values = [[each[label][column] for each in found if column in each[label]] for column in columns]
        cells = [pm(float(np.mean(v)), float(np.std(v, ddof=1)) if len(v) > 1 else None) if v else "" for v in values]
        print(f"| {label} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
