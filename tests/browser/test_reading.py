"""Reading the page by keys, in the dark, on paper, on a phone, and again later."""

from __future__ import annotations

from pathlib import Path

import pytest
from reader import VIEWS, Open, Reader

pytestmark = pytest.mark.browser


def focused(reader: Reader, of: str = "ariaLabel") -> str:
    """A property of what has the focus."""
    return str(reader.tab.evaluate("(of) => document.activeElement[of]", of))


def press(reader: Reader, *keys: str) -> None:
    for key in keys:
        reader.tab.keyboard.press(key)


def ground(reader: Reader) -> str:
    """The colour behind everything."""
    found: str = reader.tab.evaluate("() => getComputedStyle(document.body).backgroundColor")
    return found


def test_a_slash_goes_to_the_filter_and_escape_leaves_it(reader: Reader) -> None:
    press(reader, "/")
    assert focused(reader, "id") == "filter"
    reader.tab.keyboard.type("cds")
    assert reader.text("#filter-says") == "6 of 24 cells"
    press(reader, "Escape")
    assert focused(reader, "tagName") == "BODY"


def test_every_drawing_is_one_stop_and_arrows_move_within_it(reader: Reader) -> None:
    for view in VIEWS:
        reader.see(view)
    for view in ("result", "pareto", "change", "curves", "costs"):
        for drawing in reader.tab.locator(f"#{view} svg:has(.stop)").all():
            assert drawing.locator(".stop[tabindex='0']").count() == 1
    reader.tab.locator("#result .stop[tabindex='0']").focus()
    first = focused(reader)
    assert first.startswith("none · 3%, target after FT: ")
    press(reader, "ArrowDown")
    assert focused(reader) != first
    press(reader, "End", "ArrowRight")
    last = focused(reader)
    press(reader, "ArrowUp", "ArrowRight")
    assert focused(reader) == last
    press(reader, "Home")
    assert focused(reader) == first


def test_focus_is_seen_and_says_what_the_pointer_would(reader: Reader) -> None:
    press(reader, "/", "Escape")
    reader.tab.locator("#result .controls button").last.focus()
    press(reader, "Tab")
    assert reader.tab.locator("#result .stop:focus-visible").count() == 1
    assert reader.tab.locator(".tip.on").inner_text().startswith("none · 3%")
    stroke = reader.tab.evaluate("() => getComputedStyle(document.activeElement.querySelector('.glyph')).strokeWidth")
    assert stroke == "1.6px"


def test_enter_opens_a_cell_and_escape_goes_back(reader: Reader) -> None:
    reader.tab.locator("#result .stop[tabindex='0']").focus()
    press(reader, "ArrowRight", "Enter")
    name = reader.text("#drawer h2")
    assert focused(reader, "id") == "drawer"
    press(reader, "]")
    assert "seed=1" in reader.state()["cell"]
    press(reader, "[", "Escape")
    assert reader.tab.locator("#drawer h2").count() == 0
    assert focused(reader).startswith(name)


def test_help_lists_the_keys(reader: Reader) -> None:
    press(reader, "?")
    assert reader.tab.locator("#help").is_visible()
    assert "type a filter" in reader.text("#help")
    press(reader, "Escape")
    assert not reader.tab.locator("#help").is_visible()
    reader.tab.locator("#ask").click()
    assert reader.tab.locator("#help").is_visible()


def test_a_pressed_button_keeps_the_focus(reader: Reader) -> None:
    reader.tab.locator("#result button", has_text="before fine-tuning").focus()
    press(reader, "Enter")
    assert focused(reader, "textContent") == "before fine-tuning"


def test_dark_follows_the_system_and_the_switch(opened: Open, page: Path) -> None:
    light, dark = opened(page, color_scheme="light"), opened(page, color_scheme="dark")
    colours = {ground(light), ground(dark)}
    assert len(colours) == 2
    light.tab.locator("#theme").click()
    assert ground(light) == ground(dark)
    light.tab.reload()
    light.tab.wait_for_selector("#result .mark")
    assert ground(light) == ground(dark)
    press(light, "d")
    assert {ground(light), ground(dark)} == colours


def test_the_address_opens_the_same_page_again(opened: Open, reader: Reader, page: Path) -> None:
    reader.tab.locator("#filter").fill("arm=cds,random")
    reader.tab.locator("#result button", has_text="before fine-tuning").click()
    reader.click("#table tbody th button", 1)
    again = opened(page, reader.tab.evaluate("() => location.hash"))
    assert again.text("#drawer h2") == reader.text("#drawer h2")
    assert again.tab.locator("#filter").input_value() == "arm=cds,random"
    assert again.see("result") == reader.see("result")


def test_an_address_of_another_sweep_does_no_harm(opened: Open, page: Path) -> None:
    reader = opened(page, "#metric=metrics.nothing&cell=nowhere&phase=none&loss=none&along=none&cost=none&unit=none&sort=none&else=1")
    for view in VIEWS:
        assert len(reader.see(view)) > 500
    assert reader.tab.locator("#drawer h2").count() == 0


def test_contents_lead_to_their_sections(reader: Reader) -> None:
    links = reader.tab.locator("#contents a")
    assert links.all_inner_texts()[0] == "Result"
    links.get_by_text("Cost by phase").click()
    reader.tab.wait_for_function(
        "() => { const { top } = document.querySelector('#costs').getBoundingClientRect(); return -5 < top && top < 500; }"
    )
    assert reader.state() == {}


def test_all_is_on_paper(reader: Reader, tmp_path: Path) -> None:
    reader.tab.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").stat().st_size > 30_000
    for view in VIEWS:  # drawn for the printer, though nobody scrolled there
        assert reader.tab.locator(f"#{view} .body > *").count() > 0


@pytest.mark.parametrize("width", [390, 820, 1280, 1920])
def test_nothing_is_wider_than_the_screen(opened: Open, page: Path, width: int) -> None:
    reader = opened(page, width=width)
    for view in VIEWS:
        reader.see(view)
    assert reader.tab.evaluate("() => document.documentElement.scrollWidth") <= width
    reader.tab.locator("#table tbody th button").first.click()
    assert reader.tab.evaluate("() => document.documentElement.scrollWidth") <= width
