"""What a report shows of online selection."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from embedded import read_data
from made_up_masking import REFERENCES, SPOILT, STEPS, write_masking
from sacrebleu import BLEU
from sacrebleu.significance import PairedTest

from dsel.functional.alignment_histogram import EDGES, count_alignments
from dsel.report.alignment import read_alignments
from dsel.report.build import build
from dsel.report.curves import read_masking
from dsel.report.results import read_sweep
from dsel.report.significance import compare_translations
from dsel.report.translations import read_translations, score_domains

MIDDLES = (EDGES[1:] + EDGES[:-1]) / 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the made-up sweep."""
    return write_masking(tmp_path_factory.mktemp("masking"))


def test_alignments_of_the_thirds_of_training(folder: Path) -> None:
    problems: list[str] = []
    found = read_alignments(read_sweep(folder), "train", problems)
    assert not problems
    assert found["label"].unique().to_list() == ["mask_examples"]
    sums = found.group_by("seed", "part", "kind").agg(pl.col("share").sum())
    assert len(sums) == 2 * 3 * 2
    np.testing.assert_allclose(sums["share"].to_numpy(), 1)
    means = found.group_by("part", "kind").agg(mean=(pl.col("share") * pl.col("alignment")).sum())
    by = {(part, kind): mean for part, kind, mean in means.iter_rows()}
    assert by[0, "planted noise"] > by[1, "planted noise"] > by[2, "planted noise"]
    assert by[2, "right"] > 0 > by[2, "planted noise"]


def test_masking_curves_are_means_of_steps(folder: Path) -> None:
    found = read_masking(read_sweep(folder), "train", [])
    assert found["mask_recall"].null_count() == len(found)
    one = found.filter(pl.col("seed") == 0).sort("step")
    assert one["step"].to_list() == list(range(STEPS))  # fewer than points to draw: each its own
    assert one["mask_auc"].to_list() == pytest.approx([0.5 + step / 200 for step in range(STEPS)])


def test_translations_are_compared_by_sacrebleu_s_bootstrap(folder: Path) -> None:
    """With the first seed all of the method's are right and a third of the baseline's are not; with the second they are the same."""
    sweep = read_sweep(folder)
    (found,) = compare_translations(sweep, read_translations(sweep, []))
    assert (found.group, found.base, found.phase, found.part) == ("mask_examples", "no_mask", "train", "target")
    assert (found.higher, found.lower, found.n) == (1, 0, 2)
    systems = [("base", SPOILT), ("ours", REFERENCES)]
    test = PairedTest(systems, {"BLEU": BLEU()}, [REFERENCES], test_type="bs", n_samples=1000)
    assert found.p_low == test()[1]["BLEU"][1].p_value  # type: ignore[union-attr]
    assert found.p_low < 0.05 < found.p_high == 1


def test_bleu_by_domain_is_sacrebleu_s(folder: Path) -> None:
    sweep = read_sweep(folder)
    found = score_domains(sweep, read_translations(sweep, []))
    assert found["domain"].unique().sort().to_list() == ["cities", "towns"]  # the third has too few sentences
    one = found.filter((pl.col("group") == "no_mask") & (pl.col("seed") == 1) & (pl.col("domain") == "towns"))
    assert one["bleu"].item() == BLEU().corpus_score(SPOILT[30:], [REFERENCES[30:]]).score


def test_the_page_shows_them(folder: Path) -> None:
    page = build(folder, formats=("svg",), quiet=True).read_text(encoding="utf-8")
    for name in ("translations", "translated_domains", "masking", "alignments"):
        assert f'data-name="{name}"' in page
        assert f'id="chart-{name}"' in page
    assert [curve["phase"] for curve in read_data(page)["curves"]] == ["train"]
    for name in ("training", "translations", "translated_domains", "masking", "alignments"):
        assert (folder / "figures" / f"{name}.svg").stat().st_size > 2000
    drawn = (folder / "figures" / "alignments.svg").read_text(encoding="utf-8")
    for text in ("first third of training", "last third", "planted noise", "mask_examples", "share of examples"):
        assert text in drawn
    assert "Paired bootstrap" in page
    assert "<td>1/2</td><td>0/2</td>" in page


def test_counts_are_numpy_s() -> None:
    values = np.array([-9.0, -0.1, 0.1, 0.2, 1.0])
    counts = count_alignments(values, None)["aligned"]
    scale = np.sqrt((values**2).mean())
    assert counts == np.histogram(values / scale, EDGES)[0].tolist()
    assert sum(count_alignments(np.array([1e9, *np.zeros(99)]), None)["aligned"]) == 100  # what lies beyond is in the last bin
    assert count_alignments(np.zeros(3), None)["aligned"][len(MIDDLES) // 2] == 3
