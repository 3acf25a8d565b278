"""What all pages share: templates with their style sheet, and how shares are written."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

STYLE = "style.css"


def fill(template: str, sheet: str = STYLE, **values: Any) -> str:
    """A template of this package with a style sheet: that of a single run's pages, or another. Text is escaped."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    here = files("dsel.report")
    style = here.joinpath(sheet).read_text(encoding="utf-8")
    return environment.from_string(here.joinpath(template).read_text(encoding="utf-8")).render(style=style, **values)


def percent(share: float | None) -> str:
    """A share: 83.4 %, 0.25 %, < 0.01 %."""
    if share is None:
        return ""
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    if 0 < share < 0.0001:
        return "< 0.01 %"
    return f"{share:.2%}".replace("%", " %") if 0 < share < 0.01 else f"{share:.1%}".replace("%", " %")
