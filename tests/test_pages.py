"""What the documentation's hook makes of pages. mkdocs comes with the extra `docs`, which `make docs` installs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mkdocs")

import pages

NOTHING: Any = None
ARGUMENTS = {"page": NOTHING, "config": NOTHING, "files": NOTHING}


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example.org/a.js">',
        "<img alt='x' src='//example.org/a.png'>",
        '<link rel="preconnect" href="https://fonts.gstatic.com">',
    ],
)
def test_a_page_that_loads_from_a_network_is_refused(html: str) -> None:
    assert pages.LOADED.search(f"<p>{html}</p>")


@pytest.mark.parametrize(
    "html", ['<a href="https://arxiv.org/abs/2109.07591">', '<img src="a.svg">', '<link rel="canonical" href="https://example.org/">']
)
def test_links_and_own_files_are_no_matter(html: str) -> None:
    assert not pages.LOADED.search(html)


def test_formulas_become_mathml() -> None:
    inline, block = '<span class="arithmatex">\\(a &lt; b\\)</span>', '<div class="arithmatex">\\[\\frac{1}{n}\\]</div>'
    html = pages.on_page_content(f"<p>{inline}</p>{block}", **ARGUMENTS)
    assert re.findall(r'<math [^>]*display="(\w+)"', html) == ["inline", "block"]
    assert "<mfrac>" in html
    assert "arithmatex" not in html


def test_links_to_experiments_and_places_for_options_are_filled() -> None:
    text = pages.on_page_markdown("[a](../experiments/esm/README.md)\n\n<!-- options curvature=ekfac,kfac -->", **ARGUMENTS)
    assert "](experiments/esm/README.md)" in text
    assert "`curvature.is_corrected`" in text
    assert "<!--" not in text


def test_the_list_of_experiments_is_the_readme_s() -> None:
    page = pages._experiments_page()
    root = Path(pages.ROOT)
    assert set(re.findall(r"\(experiments/(\w+)/README\.md\)", page)) == {path.parent.name for path in root.glob("experiments/*/README.md")}
    assert "(docs/" not in page
