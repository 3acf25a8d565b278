"""`report.html`: one file that holds everything and asks the network for nothing."""

from __future__ import annotations

import platform
from collections import Counter
from functools import cache

from dsel.report.chart import vega_lite_version
from dsel.report.content import SPECIAL, Content
from dsel.report.embed import embed
from dsel.report.results import Sweep, spell
from dsel.report.script import bundle
from dsel.report.template import fill

TEMPLATE, STYLE = "page.html.jinja", "app/style.css"


def render(content: Content, live: str = "") -> str:
    """The page. Its text is escaped, its script draws from data that stand in it; Vega is there where a figure needs it.

    With `live`, the version of this page, it listens to the server that watches a sweep, and to nobody else.
    """
    sweep, figures = content.sweep, {name: figure for name, figure in content.figures.items() if name in SPECIAL}
    return fill(
        TEMPLATE,
        STYLE,
        content=content,
        figures=figures,
        title=sweep.name.replace("_", " "),
        question=sweep.ask("question"),
        claim=sweep.ask("claim"),
        facts=_facts(sweep),
        varied=_varied(sweep),
        config=_config(sweep),
        versions=_versions(sweep),
        data=embed(content),
        vega=_vega() if figures else "",
        script=bundle("main", "live") if live else bundle("main"),
        live=live,
    )


@cache
def _vega() -> str:
    """Vega, Vega-Lite and vega-embed as one script, which must not close its own element."""
    import vl_convert

    return vl_convert.javascript_bundle(  # type: ignore[call-arg]  # its stub forgets that the snippet has a default
        vl_version=vega_lite_version()
    ).replace("</script", "<\\/script")


def _facts(sweep: Sweep) -> list[tuple[str, str]]:
    """The size of the sweep in a few numbers."""
    frame = sweep.frame
    found = [
        ("cells", f"{len(frame):,}"),
        ("methods", str(frame["label"].n_unique())),
        ("seeds", str(frame["seed"].n_unique())),
    ]
    if frame["x_text"].n_unique() > 1:
        found.append((f"values of {sweep.x}", str(frame["x_text"].n_unique())))
    if "cost.seconds_here" in frame.columns:  # what phases that cells share took counts once
        found.append(("minutes in all", f"{frame['cost.seconds_here'].sum() / 60:,.1f}"))
    return found


def _varied(sweep: Sweep) -> list[tuple[str, str]]:
    """The overrides and their values, in the order of the table."""
    found: dict[str, list[str]] = {}
    for cell in sweep.cells:
        for key, value in cell.overrides.items():
            found.setdefault(key, []).append(spell(key, value))
    seeds = ", ".join(str(seed) for seed in sweep.frame["seed"].unique().sort())
    return [(key, ", ".join(dict.fromkeys(values))) for key, values in sorted(found.items())] + [("seed", seeds)]


def _config(sweep: Sweep) -> str:
    """The resolved configuration of the first cell."""
    import yaml

    config = sweep.cells[0].record.get("config", {})
    return str(yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=110)) if config else ""


def _versions(sweep: Sweep) -> list[tuple[str, str]]:
    """Software and machines; more than one entry where the cells differ."""
    found: Counter[tuple[str, str]] = Counter()
    for cell in sweep.cells:
        record = cell.record
        found.update((str(name), str(version)) for name, version in (record.get("versions") or {}).items())
        for name, value in (("git commit", record.get("git_commit")), ("device", record.get("cost", {}).get("device"))):
            found.update([(name, str(value))] if value else [])
    return [*sorted(found), ("python of this report", platform.python_version())]
