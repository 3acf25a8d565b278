"""Are the translations of one setting better than the baseline's? Paired bootstrap, by sacreBLEU."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import polars as pl

from dsel.report.aggregate import find_partners
from dsel.report.results import Sweep
from dsel.report.translations import Translations

SAMPLES = 1000  # bootstrap resamples (arXiv 2109.07591 takes as many)
LEVEL = 0.05


@dataclass(frozen=True)
class Test:
    """BLEU of `group` against that of `base` with the same seed, on one part of the data, after one phase: in how many of `n` seeds it is
    higher (lower) at p < LEVEL, and the largest and the smallest p."""

    group: str
    base: str
    phase: str
    part: str
    higher: int
    lower: int
    n: int
    p_low: float
    p_high: float


def compare_translations(sweep: Sweep, translations: Translations) -> list[Test]:
    """A row for each setting, phase and part whose sentences are those of the baseline's cell with the same seed."""
    cells = {(group, seed): cell for cell, group, seed in sweep.frame.select("cell", "group", "seed").iter_rows()}
    found: dict[tuple[str, str, str, str], list[tuple[float, float]]] = defaultdict(list)
    for (group, base), seed in product(find_partners(sweep).items(), sweep.frame["seed"].unique().sort()):
        if (group, seed) not in cells or (base, seed) not in cells:
            continue
        ours, theirs = (translations[cells[name, seed]] for name in (group, base))
        for key in ours.keys() & theirs.keys():
            if (result := _test(ours[key], theirs[key])) is not None:
                found[group, base, *key].append(result)
    order = {group: at for at, group in enumerate(sweep.frame["group"].unique(maintain_order=True))}
    return [_summary(key, found[key]) for key in sorted(found, key=lambda key: (key[2], key[3] != "target", order[key[0]]))]


def _summary(key: tuple[str, str, str, str], results: list[tuple[float, float]]) -> Test:
    sure = [difference for difference, p in results if p < LEVEL]
    levels = [p for _, p in results]
    return Test(*key, sum(d > 0 for d in sure), sum(d < 0 for d in sure), len(results), min(levels), max(levels))


def _test(ours: pl.DataFrame, theirs: pl.DataFrame) -> tuple[float, float] | None:
    """Difference in BLEU and p; None where they did not translate the same."""
    from sacrebleu import BLEU
    from sacrebleu.significance import PairedTest, Result

    references = ours["tgt"].to_list()
    if references != theirs["tgt"].to_list():
        return None
    systems: list[tuple[str, Sequence[str]]] = [("theirs", theirs["hypothesis"].to_list()), ("ours", ours["hypothesis"].to_list())]
    _, scores = PairedTest(systems, {"BLEU": BLEU()}, [references], test_type="bs", n_samples=SAMPLES)()
    base, mine = scores["BLEU"]
    assert isinstance(base, Result)
    assert isinstance(mine, Result)
    difference = mine.score - base.score
    return difference, 1.0 if difference == 0 else float(mine.p_value or 0)  # of equal ones sacreBLEU says the least p there is
