"""A page that is watched while its sweep runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from made_up_plan import write_plan
from made_up_sweep import write_cell

from dsel.report import watch as watching
from dsel.report.serve import Server
from dsel.report.watch import Watch

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser
CELLS = [f"arm={arm},budget.fraction=0.3/seed={seed}" for arm in ("cds", "random") for seed in (0, 1)]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(watching, "SECONDS", 0.1)
    watch = Watch(tmp_path / "sweep")
    watch.look()
    with Server(watch, 0) as found, watch.going():
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def test_a_page_follows_its_sweep_and_keeps_what_the_reader_chose(browser: Browser, server: Server) -> None:
    folder, wrong = server.watch.folder, []
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(15_000)
    tab = context.new_page()
    tab.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.goto(server.address)
    assert "No result to show yet" in tab.inner_text("main")
    write_plan(folder, CELLS)
    tab.wait_for_selector("#live:has-text('4 waiting')")
    for arm in ("cds", "random"):
        write_cell(folder, arm, 0.3, 0)
    tab.wait_for_selector("#filter-says:has-text('2 of 2 cells')")
    tab.locator("#table tbody th button").first.click()
    tab.fill("#filter", "arm=random")
    failed = folder / CELLS[1]
    failed.mkdir(parents=True)
    (failed / "failed.json").write_text(json.dumps({"error": "<b>no memory</b>"}))
    tab.wait_for_selector("#live:has-text('1 failed')")
    write_cell(folder, "random", 0.3, 1)
    tab.wait_for_timeout(600)
    assert "1 of 2 cells" in tab.inner_text("#filter-says")  # not under the hands of somebody who types
    tab.locator("#filter").blur()
    tab.wait_for_selector("#filter-says:has-text('2 of 3 cells')")
    assert tab.input_value("#filter") == "arm=random"
    assert tab.inner_text("#drawer h2").endswith("30%")
    tab.locator("#live summary").click()
    assert "<b>no memory</b>" in tab.inner_text("#live table")
    assert wrong == []
    context.close()
