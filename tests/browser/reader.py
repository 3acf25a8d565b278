"""Somebody who reads a page: a tab, and whatever went wrong in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Locator, Page, Request

# The middle of a mark on the screen: of a line, halfway along it.
MIDDLE = """(mark) => {
  const line = mark.querySelector("path.reach");
  const box = (mark.querySelector(".glyph") ?? mark).getBoundingClientRect();
  if (!line) return [box.x + box.width / 2, box.y + box.height / 2];
  const point = line.getPointAtLength(line.getTotalLength() / 2).matrixTransform(line.getScreenCTM());
  return [point.x, point.y];
}"""
# What came into sight is drawn in the next frame, and moves what is below.
SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))"
VIEWS = ("result", "pareto", "table", "change", "curves", "flow", "scores", "costs", "metrics")


@dataclass
class Reader:
    """`wrong` has errors of the console and of scripts, and requests for anything but the page at `address`."""

    tab: Page
    address: str
    wrong: list[str] = field(default_factory=list)

    def open(self, state: str = "") -> Reader:
        """The page, with what is behind `#`."""
        self.tab.on("console", self._console)
        self.tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.tab.on("request", self._request)
        self.tab.goto(self.address + state)
        self.tab.wait_for_selector("#result[aria-busy=false], #result[hidden]", state="attached")
        return self

    def _scroll_to(self, place: Locator) -> None:
        place.scroll_into_view_if_needed()
        self.tab.evaluate(SETTLED)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(message.text)

    def _request(self, request: Request) -> None:
        if request.url.partition("#")[0] != self.address and not request.url.startswith(("data:", "blob:")):
            self.wrong.append(request.url)

    def see(self, view: str) -> str:
        """Scroll to a view; its markup, without what only says what was clicked."""
        self._scroll_to(self.tab.locator(f"#{view}"))
        self.tab.wait_for_selector(f"#{view}[aria-busy=false] .body > *")
        found: str = self.tab.evaluate("(view) => document.querySelector(`#${view} .body`).innerHTML", view)
        return found.replace(" hot", "").replace(" chosen", "")

    def see_chart(self, name: str) -> Locator:
        """Scroll to what Vega draws; it, once it is drawn."""
        self._scroll_to(self.tab.locator(f"#chart-{name}"))
        self.tab.wait_for_selector(f"#chart-{name}[aria-busy=false]")
        return self.tab.locator(f"#chart-{name}")

    def click(self, selector: str, at: int = 0) -> None:
        """With the pointer, in the middle of the mark."""
        mark = self.tab.locator(selector).nth(at)
        self._scroll_to(mark)
        x, y = mark.evaluate(MIDDLE)
        self.tab.mouse.click(x, y)

    def text(self, selector: str) -> str:
        """What is to be read there."""
        return self.tab.locator(selector).first.inner_text()

    def groups(self, view: str) -> set[str]:
        """The settings of which a view shows something."""
        self.see(view)
        names: dict[str, Any] = self.tab.evaluate(
            "() => JSON.parse(document.querySelector('#data').textContent).groups.map((group) => group.name)"
        )
        places = self.tab.evaluate(
            "(view) => [...document.querySelectorAll(`#${view} .body [data-group]`)].map((node) => Number(node.dataset.group))", view
        )
        return {names[place] for place in places}

    def state(self) -> dict[str, str]:
        """What stands in the address."""
        found: dict[str, str] = self.tab.evaluate("() => Object.fromEntries(new URLSearchParams(location.hash.slice(1)))")
        return found


Open = Callable[..., Reader]  # of a page: its path, what is behind `#`, the width of the screen
