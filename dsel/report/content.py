"""Everything a report shows, gathered once: sentences, the table, figures and frames."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import polars as pl

from dsel.report import figures, selected
from dsel.report.aggregate import add_differences, aggregate, has_target_loss, headline
from dsel.report.alignment import draw_alignments, read_alignments
from dsel.report.chart import Chart, Look, to_spec
from dsel.report.composition import domain_shares, score_histogram
from dsel.report.curves import Crossing, find_crossings, phase_costs, read_compositions, read_curves, read_masking
from dsel.report.rankings import draw_costs_of_rankings, draw_regrets, draw_transfers, ranking_headline, read_transfers
from dsel.report.results import Sweep
from dsel.report.significance import Test, compare_translations
from dsel.report.table import Table, make_table
from dsel.report.tasks import draw_agreement, draw_errors, draw_estimates, read_errors, read_estimates, task_headline
from dsel.report.translations import Translations, draw_domains, read_translations, score_domains

PHASES = ("pretrain", "train", "continue", "finetune")  # those that leave curves
SPECIAL = (  # figures that the page shows as Vega draws them; all others it draws itself
    "regret",
    "ranking_cost",
    "transfers",
    "agreement",
    "estimates",
    "approximation",
    "translations",
    "translated_domains",
    "masking",
    "alignments",
)
MAX_PAIRS = 400  # pairs of curves to look for crossings in: all of a sweep, but not of hundreds of groups


@dataclass(frozen=True)
class Figure:
    """A Vega-Lite specification under its file name, with a caption that says how to read it."""

    name: str
    caption: str
    spec: dict[str, Any]


@dataclass(frozen=True)
class Content:
    """What the page, the images and the terminal draw from; `curves` are by phase, `problems` those of the sweep and of its artifacts."""

    sweep: Sweep
    headline: list[str]
    table: Table
    figures: dict[str, Figure]
    curves: dict[str, pl.DataFrame]
    compositions: list[dict[str, Any]]
    crossings: list[Crossing]
    tests: list[Test]
    problems: list[str]


CAPTIONS = {
    "losses": "Large points: mean over seeds; bars: one standard deviation; small points: the seeds.",
    "differences": "Target loss minus that of the baseline (0) with the same seed (same pretraining) and budget: below "
    "0 is better. This leaves out the spread that all methods of one seed share.",
    "ranks": "Left: below and left is better; bars: one standard deviation. Right: lines that cross are settings "
    "that fine-tuning reorders.",
    "pareto": "Target loss against the FLOPs of selection and training together (without a pretraining that all share); bars: one "
    "standard deviation. Dashed: the front, which nothing beats in both.",
    "detection": "How well attribution finds noise, copies and sources. Large points: mean over seeds; bars: one standard deviation; small "
    "points: the seeds.",
    "curves": "Target loss while training on the selection: mean over seeds; band: lowest to highest seed.",
    "finetune": "Target loss while fine-tuning on the target sample: mean over seeds; band: lowest to highest seed.",
    "training": "Target loss while training: mean over seeds; band: lowest to highest seed.",
    "translations": "Large points: mean over seeds; bars: one standard deviation; small points: the seeds. Higher is better.",
    "translated_domains": "BLEU by domain, of the target's test pairs and of right pairs of the pool that were held out: large points are "
    "means over seeds. Domains of fewer than 20 pairs are left out.",
    "masking": "What was masked inside of the step: mean over seeds; band: lowest to highest seed. Precision: which part of it is planted "
    "noise; recall: which part of the planted noise it is.",
    "alignments": "How far examples point along the clean data, over the root mean square of the step; left of 0 is masked. Means over "
    "seeds.",
    "forgetting": "Loss on the generic pool: what specialising costs.",
    "pool_curves": "Pool loss while training on the selection: mean over seeds; band: lowest to highest seed.",
    "selector": "How well each selector finds the target documents that were hidden in the pool: precision is their "
    "share of the selection, recall the share of them that was found.",
    "domains": "Where the selection comes from: the largest domains, means over seeds (of a sweep, its two ends).",
    "scores": "Scores of the pool, of the planted documents and of the selected, each as shares of its own number (one seed).",
    "agreement": "Estimates beside models that were really fine-tuned on the same random subsets of tasks. Large points: mean over seeds; "
    "bars: one standard deviation; small points: the seeds.",
    "estimates": "A point is a subset of tasks: its estimated loss, and that of a model fine-tuned on it. On the dashed line both are "
    "equal; where there is none, estimates only order subsets.",
    "approximation": "What becomes of outputs when the parameters move: squared relative error of the first-order approximation, and of no "
    "approximation at all. Medians over seeds and directions.",
    "regret": "Regret@k, in percent: what is lost by trying the first k sources of a ranking only, of what the best of all brings, or no "
    "transfer. NDCG and rank correlation: of the whole ranking, with what each source really brings. Large points: mean over seeds; bars: "
    "one standard deviation; small points: the seeds.",
    "ranking_cost": "Below and left is better: regret beside the time that a further target takes for each source. The larger a point, the "
    "more is kept of each source on disk. Means over seeds; bars: one standard deviation.",
    "transfers": "What fine-tuning on a source first really brings: accuracy, or for a regression Pearson's correlation, after it minus "
    "without it; means over seeds. Blue helps, orange harms; sources that help most stand first. The strongest twentieth has one colour.",
    "costs": "Time by phase; phases that cells share are computed once.",
}


def gather(sweep: Sweep, images: bool = True) -> Content:
    """Read the artifacts of a sweep and draw what the page cannot draw itself, and with `images` what files are to be made of."""
    problems = list(sweep.problems)
    frame = add_differences(sweep)
    means, look = aggregate(frame), Look.of(frame, sweep.x)
    curves = {phase: read_curves(sweep, phase, problems) for phase in PHASES}
    compositions, translations = read_compositions(sweep, problems), read_translations(sweep, problems)
    charts = _draw_special(sweep, frame, means, look, translations, problems)
    charts |= _draw_images(sweep, frame, means, look, curves, compositions) if images else {}
    judged = [*ranking_headline(sweep), *task_headline(sweep)]
    return Content(
        sweep,
        [*judged, *(headline(sweep) if has_target_loss(sweep.frame) or not judged else [])],
        make_table(sweep),
        {name: Figure(name, CAPTIONS[name], to_spec(chart)) for name in CAPTIONS if (chart := charts.get(name)) is not None},
        curves,
        compositions,
        _crossings(curves["continue"]),
        compare_translations(sweep, translations),
        list(dict.fromkeys(problems)),
    )


def _draw_special(
    sweep: Sweep, frame: pl.DataFrame, means: pl.DataFrame, look: Look, translations: Translations, problems: list[str]
) -> dict[str, Chart | None]:
    """The figures of some experiments only, which the page shows as Vega draws them."""
    return {
        "translations": figures.draw_translations(frame, means, look),
        "translated_domains": draw_domains(score_domains(sweep, translations), look),
        "masking": figures.draw_masking(read_masking(sweep, "train", problems), look),
        "alignments": draw_alignments(read_alignments(sweep, "train", problems)),
        "agreement": draw_agreement(frame, means, look),
        "estimates": draw_estimates(read_estimates(sweep, problems), look),
        "approximation": draw_errors(read_errors(sweep, problems), look),
        "regret": draw_regrets(frame, means, look),
        "ranking_cost": draw_costs_of_rankings(means, look),
        "transfers": draw_transfers(read_transfers(sweep, problems)),
    }


def _draw_images(
    sweep: Sweep, frame: pl.DataFrame, means: pl.DataFrame, look: Look, curves: dict[str, pl.DataFrame], compositions: list[dict[str, Any]]
) -> dict[str, Chart | None]:
    """What the page draws itself, from its data: here for the files in `figures/`."""
    return {
        "losses": figures.draw_losses(frame, means, look),
        "differences": figures.draw_differences(frame, means, look),
        "ranks": figures.draw_ranks(means, look),
        "curves": figures.draw_curves(curves["continue"], look),
        "finetune": figures.draw_curves(curves["finetune"], look),
        "training": figures.draw_curves(curves["train"], look),
        "pareto": figures.draw_pareto(means, look),
        "detection": figures.draw_detection(frame, means, look),
        "forgetting": figures.draw_forgetting(frame, means, look),
        "pool_curves": figures.draw_curves(curves["continue"], look, "pool_loss", "pool loss"),
        "selector": figures.draw_selector(frame, means, look),
        "domains": selected.draw_domains(domain_shares(compositions), look),
        "scores": selected.draw_scores(score_histogram(compositions)),
        "costs": selected.draw_costs(phase_costs(sweep), look),
    }


def _crossings(curves: pl.DataFrame) -> list[Crossing]:
    """The last crossing of each pair of mean curves that differ in one thing (series or x), earliest first."""
    if curves.is_empty():
        return []
    groups = curves.select("group", "series", "x_text").unique(maintain_order=True).rows()
    pairs = [(a[0], b[0]) for a, b in combinations(groups, 2) if a[1] == b[1] or a[2] == b[2]][:MAX_PAIRS]
    own = {str(group): frame for (group,), frame in curves.group_by("group", maintain_order=True)}  # two of hundreds are looked at
    found = [every[-1] for one, two in pairs if (every := find_crossings(pl.concat([own[one], own[two]]), one, two))]
    return sorted(found, key=lambda crossing: (crossing.step, crossing.first, crossing.second))
