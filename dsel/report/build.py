"""Write a report over a folder of results: the page, figures, tables and the data behind them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsel.artifact import write_atomic
from dsel.report.chart import vega_lite_version
from dsel.report.content import CAPTIONS, Content, gather
from dsel.report.page import render
from dsel.report.results import read_sweep
from dsel.report.table import to_csv, to_latex, to_markdown, to_rich

FORMATS = ("png", "svg")


def build(folder: Path, formats: Sequence[str] = FORMATS, scale: float = 2.0, quiet: bool = False) -> Path:
    """Write `report.html`, `figures/*`, `table.{csv,md,tex}` and `results.parquet` into `folder`; returns the page.

    `formats` of the images are "png", "svg" or none; `scale` is pixels a point of the png. Prints the table and the
    path unless `quiet`. Errors: InputError when there is no folder or no result in it.
    """
    content = gather(read_sweep(folder), images=bool(formats))
    page = folder / "report.html"
    write_atomic(page, render(content))
    write_atomic(folder / "table.csv", to_csv(content.table))
    write_atomic(folder / "table.md", to_markdown(content.table))
    write_atomic(folder / "table.tex", to_latex(content.table))
    data = io.BytesIO()
    content.sweep.frame.write_parquet(data)
    write_atomic(folder / "results.parquet", data.getvalue())
    _write_images(content, folder / "figures", formats, scale)
    if not quiet:
        _show(content, page)
    return page


def _write_images(content: Content, folder: Path, formats: Sequence[str], scale: float) -> None:
    for name in CAPTIONS:
        for kind in FORMATS:
            path = folder / f"{name}.{kind}"
            if kind in formats and name in content.figures:
                write_atomic(path, _image(content.figures[name].spec, kind, scale))
            else:
                path.unlink(missing_ok=True)  # of an earlier report: it would no longer agree with the page


def _image(spec: dict[str, Any], kind: str, scale: float) -> bytes:
    import vl_convert

    version = vega_lite_version()
    if kind == "svg":
        return vl_convert.vegalite_to_svg(spec, vl_version=version).encode()
    return vl_convert.vegalite_to_png(spec, vl_version=version, scale=scale)


def _show(content: Content, page: Path) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    table, width = content.table, console.width if console.is_terminal else 10_000  # a log file has no edge
    console = Console(highlight=False, width=width)
    while console.measure(to_rich(table, "")).minimum > width and len(table.titles) > table.num_keys + 1:
        table = table.drop_last()
    console.print(to_rich(table, content.sweep.name))
    if left := len(content.table.titles) - len(table.titles):
        console.print(f"{left} more columns in table.md and on the page")
    for line in content.headline:
        console.print(line, markup=False)
    if content.problems:
        count = f"left out {len(content.problems)}; the page lists them; first: "
        console.print(count + content.problems[0], style="yellow", markup=False)
    console.print(f"report: {page}", markup=False, soft_wrap=True)
