"""The page in a real browser: every view is there, shows what the filter lets through, and opens the cell that is clicked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_up_estimates import write_estimates
from made_up_masking import write_masking
from made_up_rankings import REGRET, write_rankings
from made_up_sweep import DOMAINS, NASTY, write_cell
from reader import VIEWS, Open, Reader

from dsel.report.build import build

pytestmark = pytest.mark.browser
MARKS = {
    "result": "#result .mark.stop",
    "result seeds": "#result .mark.seed",
    "pareto": "#pareto .mark",
    "change": "#change .mark",
    "curves": "#curves .mark",
    "costs": "#costs .mark",
    "metrics": "#metrics .mark.stop",
    "flow": "#flow figcaption button",
    "scores": "#scores figcaption button",
    "table": "#table tbody th button",
}


def test_every_view_is_drawn_when_it_comes_into_sight(reader: Reader) -> None:
    assert reader.tab.locator("#costs .body > *").count() == 0
    for view in VIEWS:
        assert len(reader.see(view)) > 500, view
    assert reader.tab.locator("#views section, #more section").count() == len(VIEWS) + 1  # and the crossings


@pytest.mark.parametrize("view", MARKS)
def test_a_click_opens_the_cell_and_lights_it_in_all_views(reader: Reader, view: str) -> None:
    reader.see(view.split(" ")[0])
    at = -1 if view == "curves" else 1  # of lines that lie upon each other the last one is on top
    mark = reader.tab.locator(MARKS[view]).nth(at)
    group = mark.evaluate("(node) => node.closest('[data-group]').dataset.group")
    reader.click(MARKS[view], at)
    name = reader.text("#drawer h2")
    names = reader.tab.evaluate("() => JSON.parse(document.querySelector('#data').textContent).groups.map((group) => group.name)")
    assert name == names[int(group)]
    for other in ("result", "table"):
        reader.see(other)
        chosen = reader.tab.locator(f"#{other} .chosen").evaluate_all("(nodes) => nodes.map((node) => node.dataset.group)")
        assert set(chosen) == {group}


def test_a_cell_has_its_numbers_costs_configuration_and_documents(reader: Reader) -> None:
    reader.click("#table tbody th button", 4)
    drawn = reader.text("#drawer")
    for text in ("cds · 3%", "target after FT", "precision", "pretrain (reused)", "budget.fraction", "0.03", "numpy/<i>x</i>", "arm=cds"):
        assert text.lower() in drawn.lower(), text
    reader.tab.locator("#drawer .choice button").nth(2).click()
    assert "seed=2" in reader.state()["cell"]
    reader.tab.locator("#drawer summary", has_text="keys").click()
    reader.tab.locator("#drawer input").fill("_target_")
    assert reader.tab.locator("#drawer details dl > div:visible").all_inner_texts() == ["scorer._target_\ndsel.scorer.cds"]
    reader.tab.locator("#drawer details dl button", has_text="dsel.scorer.cds").click()
    assert reader.state()["filter"] == "scorer._target_=dsel.scorer.cds"
    assert reader.groups("table") == {"cds · 3%", "cds · 30%"}


@pytest.mark.parametrize("view", VIEWS)
def test_the_filter_changes_every_view(reader: Reader, view: str) -> None:
    before = reader.see(view)
    reader.tab.locator("#filter").fill("arm=cds fraction=0.3 seed!=0")
    assert reader.text("#filter-says") == "2 of 24 cells"
    assert reader.see(view) != before
    assert reader.groups(view) == {"cds · 30%"} or view == "change"  # one setting has no order
    reader.tab.locator("#clear").click()
    assert reader.see(view) == before


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ("cds", 6),
        ("arm=cds,random", 12),
        ("arm!=cds", 18),
        ("seed>0", 16),
        ("budget.fraction<=0.03", 12),
        ("scorer._target_=dsel.scorer.random", 6),
        ('setting="cds · 3%"', 3),
        ("selector_auc>0.5", 18),
        ("arm=cds seed=1 fraction=0.3", 1),
        ("arm=nobody", 0),
    ],
)
def test_a_filter_is_what_one_would_type(reader: Reader, words: str, count: int) -> None:
    reader.tab.locator("#filter").fill(words)
    assert reader.text("#filter-says") == f"{count} of 24 cells"
    if not count:
        assert "No cell that the filter lets through" in reader.see("result")


def test_an_unknown_key_is_named(reader: Reader) -> None:
    reader.tab.locator("#filter").fill("lerning_rate=3")
    assert reader.text("#filter-says") == "No key lerning_rate"


def test_buttons_write_the_filter(reader: Reader) -> None:
    button = reader.tab.locator("#sidebar .facet button")
    button.get_by_text("cds", exact=True).click()
    assert reader.state()["filter"] == "series=cds"
    button.get_by_text("none", exact=True).click()
    assert reader.state()["filter"] == "series=cds,none"
    assert reader.text("#filter-says") == "12 of 24 cells"
    button.get_by_text("cds", exact=True).click()
    button.get_by_text("none", exact=True).click()
    assert reader.state() == {}
    button.get_by_text("0.03", exact=True).click()
    assert reader.state()["filter"] == "budget.fraction=0.03"


def test_means_are_over_the_seeds_that_are_left(reader: Reader) -> None:
    reader.see("table")
    row = reader.tab.locator("#table tbody tr", has_text="cds").first
    assert "±" in row.inner_text()
    reader.tab.locator("#filter").fill("seed=1")
    reader.see("table")
    assert "±" not in row.inner_text()
    assert "seed 1" in row.inner_text()


def test_before_and_after_fine_tuning(reader: Reader) -> None:
    assert "target loss after fine-tuning" in reader.see("result")
    reader.see("curves")
    assert "fine-tuning on the target" in reader.text("#curves [aria-pressed=true]")
    reader.tab.locator("#result button", has_text="before fine-tuning").click()
    for view in ("result", "pareto"):
        assert "target loss before fine-tuning" in reader.see(view)
    reader.see("curves")
    assert "training on the selection" in reader.text("#curves [aria-pressed=true]")
    assert reader.state()["metric"] == "metrics.target_loss_before_ft"


def test_differences_are_from_the_baseline(reader: Reader) -> None:
    assert {"random · 3%", "none · 3%"} <= reader.groups("result")
    reader.tab.locator("#result button", has_text="difference from random").click()
    assert "difference in target loss" in reader.see("result")
    assert "random · 3%" not in reader.groups("result")
    assert "none · 3%" in reader.groups("result")


def test_curves_run_along_steps_tokens_and_flops(reader: Reader) -> None:
    drawn = set()
    for words, title in (("steps", "optimizer step"), ("tokens", "tokens in this phase")):
        reader.see("curves")
        reader.tab.locator("#curves button", has_text=words).click()
        drawn.add(reader.see("curves"))
        assert title in reader.see("curves")
    assert len(drawn) == 2
    assert reader.tab.locator("#curves button", has_text="FLOPs").count() == 0  # its phases say none
    reader.tab.locator("#curves button", has_text="pool loss").click()
    assert "pool loss (nats/token)" in reader.see("curves")
    assert reader.tab.locator("#curves .mark").count() == 8
    reader.tab.locator("#curves button", has_text="Seeds").click()
    assert reader.tab.locator("#curves .mark").count() == 24


def test_flops_count_selection_too(opened: Open, tmp_path: Path) -> None:
    for arm in ("random", "cds"):
        write_cell(tmp_path / "sweep", arm, 0.3, 0)
    for path in (tmp_path / "sweep").rglob("result.json"):
        record = json.loads(path.read_text())
        phases = record["cost"]["phases"]
        phases["pretrain"]["flops"], phases["continue"]["flops"] = 9e15, 1e12
        phases["score"]["flops"] = 5e12 if record["label"] == "cds" else 0
        path.write_text(json.dumps(record))
    reader = opened(build(tmp_path / "sweep", formats=(), quiet=True), "#phase=continue&along=flops")
    assert "FLOPs after pretraining" in reader.see("curves")
    notes = []
    for at in range(2):
        reader.tab.locator("#curves .mark").nth(at).hover(force=True, position={"x": 1, "y": 1})
        notes.append(reader.tab.locator("#curves .mark").nth(at).get_attribute("aria-label"))
    assert "(1e12 flops)" in str(notes[0])
    assert "(6e12 flops)" in str(notes[1])


def test_any_metric_can_be_chosen(reader: Reader) -> None:
    reader.tab.locator("#sidebar select").select_option(label="recall")
    for view in ("pareto", "result"):
        assert "recall" in reader.see(view)
    assert "Higher is better" in reader.text("#result > .note")
    reader.see("metrics")
    reader.tab.locator("#metrics button", has_text="pool after FT").click()
    assert "pool loss after fine-tuning" in reader.see("result")


def test_the_front_has_what_nothing_beats(reader: Reader) -> None:
    reader.see("pareto")
    reader.tab.locator("#pareto select").select_option(label="seconds")
    beaten = reader.tab.locator("#pareto .beaten").count()
    assert 0 < beaten < reader.tab.locator("#pareto .mark").count()


def test_the_table_sorts(reader: Reader) -> None:
    reader.see("table")
    head = reader.tab.locator("#table thead button", has_text="target after FT")
    values = []
    for _ in range(2):
        head.click()
        values.append([float(text.split("\n")[0]) for text in reader.tab.locator("#table tbody td:nth-child(4)").all_inner_texts()])
    assert values[0] == sorted(values[0])
    assert values[1] == values[0][::-1]
    assert reader.tab.locator("#table th[aria-sort=descending]").count() == 1


def test_the_table_shows_metrics_without_a_name_on_demand(opened: Open, tmp_path: Path) -> None:
    for arm in ("random", "cds"):
        write_cell(tmp_path / "sweep", arm, 0.3, 0)
    for path in (tmp_path / "sweep").rglob("result.json"):
        path.write_text(path.read_text().replace('"selector_auc"', '"own_auc"'))
    reader = opened(build(tmp_path / "sweep", formats=(), quiet=True))
    assert "own auc" not in reader.see("table")
    reader.tab.locator("#table button", has_text="All columns").click()
    assert "own auc" in reader.see("table")


def test_text_of_the_data_is_never_markup(reader: Reader) -> None:
    reader.click("#table tbody th button", 4)
    reader.tab.locator("#drawer .document summary").first.click()
    assert reader.tab.locator("#drawer .document pre").first.text_content() == NASTY
    assert reader.tab.locator("#drawer pre *").count() == 0
    assert DOMAINS[-1] in reader.see("flow").replace("&lt;", "<").replace("&gt;", ">")
    assert reader.tab.locator("#flow b, #drawer .document i").count() == 0


def test_views_without_data_are_absent(opened: Open, tmp_path: Path) -> None:
    for seed in range(2):
        write_cell(tmp_path / "sweep", "none", 0.3, seed)
    for path in (tmp_path / "sweep").rglob("result.json"):
        record = json.loads(path.read_text())
        record |= {"metrics": {"my_number": 1.5 + record["seed"]}, "artifacts": {}, "cost": {}, "config": {}}
        path.write_text(json.dumps(record))
    reader = opened(build(tmp_path / "sweep", formats=(), quiet=True))
    shown = reader.tab.locator("main section:visible").evaluate_all("(nodes) => nodes.map((node) => node.id)")
    assert shown == ["result", "table", "config"]
    assert "my number" in reader.see("result")


def test_vega_draws_what_only_it_draws(opened: Open, tmp_path: Path) -> None:
    reader = opened(build(write_rankings(tmp_path), formats=(), quiet=True))
    assert reader.tab.locator("#chart-transfers svg").count() == 0
    assert reader.see_chart("transfers").locator(".mark-rect.role-mark path").count() == 6
    assert reader.tab.locator("#contents a", has_text="Rankings").count() == 1


@pytest.mark.parametrize(
    ("words", "names", "share"),
    [("", set(REGRET), 1), ("label=logme", {"logme"}, 1 / 3), ("label=logme seed=0", {"logme"}, 2 / 9), ("label=nobody", set(), 0)],
)
def test_the_filter_reaches_what_vega_draws(opened: Open, tmp_path: Path, words: str, names: set[str], share: float) -> None:
    """A mean goes with its setting, a seed with its cell; what is not of a setting stays."""
    reader = opened(build(write_rankings(tmp_path), formats=(), quiet=True))
    points = reader.see_chart("regret").locator(".mark-symbol.role-mark path")
    count = points.count()
    assert count == 10 * len(REGRET) * 3  # ten panels, each with the mean and two seeds of a setting
    reader.tab.locator("#filter").fill(words)
    labels = reader.see_chart("regret").locator(".role-axis-label text").all_text_contents()
    assert set(labels) & set(REGRET) == names
    assert points.count() == round(count * share)
    assert reader.tab.locator("#chart-regret .nothing").count() == (not names)
    assert reader.see_chart("transfers").locator(".mark-rect.role-mark path").count() == 6
    reader.tab.locator("#filter").fill("")
    assert reader.see_chart("regret").locator(".mark-symbol.role-mark path").count() == count


def test_a_panel_goes_with_its_setting(opened: Open, tmp_path: Path) -> None:
    reader = opened(build(write_estimates(tmp_path), formats=(), quiet=True), "#filter=label%3Dgradex")
    assert reader.see_chart("estimates").locator(".role-title-text").all_text_contents() == ["gradex"]


def test_the_filter_reaches_facets_and_tests_of_significance(opened: Open, tmp_path: Path) -> None:
    reader = opened(build(write_masking(tmp_path), formats=(), quiet=True))
    test = reader.tab.locator("#translations tbody tr", has_text="mask_examples")
    for words, is_there in (("", True), ("label=no_mask", False), ("label=mask_examples", True)):
        reader.tab.locator("#filter").fill(words)
        chart = reader.see_chart("alignments")
        assert bool(chart.locator("svg .mark-area").count()) == is_there
        assert bool(chart.locator(".nothing").count()) != is_there
        assert test.is_visible() == is_there


def test_the_filter_suggests_how_to_go_on(reader: Reader) -> None:
    def suggested() -> list[str]:
        found: list[str] = reader.tab.locator("#known option").evaluate_all("(nodes) => nodes.map((node) => node.value)")
        return found

    reader.tab.locator("#filter").fill("seed=1 sco")
    assert "seed=1 scorer._target_=" in suggested()
    reader.tab.locator("#filter").fill("seed=1 scorer._target_=")
    assert "seed=1 scorer._target_=dsel.scorer.cds" in suggested()
    reader.tab.locator("#filter").fill("setting=")
    assert suggested() == []
