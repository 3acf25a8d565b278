"""A browser for all tests, and for each a reader in whose page nothing may go wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from chromium import find_chromium
from made_up_sweep import write_sweep
from reader import Open, Reader

from dsel.report.build import build

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium; without one this is an error, not a test that is skipped."""
    from playwright.sync_api import sync_playwright

    binary = find_chromium()
    if binary is None:
        pytest.fail("no Chromium; `make test-browser` installs it")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=binary)
        yield found
        found.close()


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on a made-up sweep: four methods, two budgets, three seeds."""
    return build(write_sweep(tmp_path_factory.mktemp("outputs") / "sweep"), formats=(), quiet=True)


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Opens a page from disk, without a network."""
    readers, contexts = [], []

    def open_page(path: Path, state: str = "", width: int = 1400, **options: Any) -> Reader:
        context = browser.new_context(offline=True, viewport={"width": width, "height": 900}, **options)
        context.set_default_timeout(10_000)
        contexts.append(context)
        readers.append(Reader(context.new_page(), path.as_uri()))
        return readers[-1].open(state)

    yield open_page
    wrong = [line for reader in readers for line in reader.wrong]
    for context in contexts:
        context.close()
    if sys.exception() is None:
        assert wrong == []


@pytest.fixture
def reader(opened: Open, page: Path) -> Reader:
    """Of the made-up sweep's report."""
    return opened(page)
