"""Histograms as plain SVG: a page with them needs no script, and is written in no time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 720, 210, 58, 42, 22


@dataclass(frozen=True)
class Series:
    """Counts (bin,) of one kind of documents, drawn as shares of their sum; `colour` is a class of the style sheet."""

    name: str
    colour: str
    counts: Sequence[float]


def draw_histogram(
    edges: Sequence[float], series: Sequence[Series], title: str, marks: Sequence[tuple[float, str]] = (), log: bool = False
) -> str:
    """Bars of every series over each other, between `edges` (bin + 1,); `marks` are dashed lines at values. Titles are plain words."""
    shares = [[count / max(sum(one.counts), 1) for count in one.counts] for one in series]
    highest = max((max(row, default=0) for row in shares), default=0) or 1.0
    at = Scale(edges, log)
    parts = [_axes(edges, highest, title, at, log)]
    for one, row in zip(series, shares, strict=True):
        parts.append(f'<g class="{one.colour}">')
        for low, high, share, count in zip(edges[:-1], edges[1:], row, one.counts, strict=True):
            if share:
                tip = f"{one.name}: {count:,} ({share:.2%}) from {_word(low)} to {_word(high)}"
                parts.append(f"{_bar(at(low), at(high), share / highest)}<title>{tip}</title></rect>")
        parts.append("</g>")
    for value, name in marks:
        parts.append(_mark(at(min(max(value, edges[0]), edges[-1])), name))
    names = ", ".join(one.name for one in series)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title} of {names}">{"".join(parts)}</svg>'


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """About `count` round numbers from `low` to `high`."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    return [n * step for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


class Scale:
    """Where a value is on the x axis, in pixels. A logarithmic axis begins at 1."""

    def __init__(self, edges: Sequence[float], log: bool) -> None:
        self.log, self.low, self.high = log, edges[0], edges[-1]

    def __call__(self, value: float) -> float:
        if self.log:
            return LEFT + math.log(max(value, 1)) / math.log(max(self.high, 2)) * (WIDTH - LEFT - 12)
        share = (value - self.low) / ((self.high - self.low) or 1)
        return LEFT + share * (WIDTH - LEFT - 12)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def _bar(left: float, right: float, share: float) -> str:
    top = _y(share)
    return f'<rect x="{left:.1f}" y="{top:.1f}" width="{max(right - left - 0.5, 0.5):.1f}" height="{HEIGHT - BOTTOM - top:.1f}">'


def _mark(x: float, name: str) -> str:
    anchor, dx = ("end", -5) if x > WIDTH / 2 else ("start", 5)
    line = f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{HEIGHT - BOTTOM}"/>'
    return f'{line}<text class="mark" x="{x + dx:.1f}" y="{TOP - 2}" text-anchor="{anchor}">{name}</text>'


def _axes(edges: Sequence[float], highest: float, title: str, at: Scale, log: bool) -> str:
    found = []
    for share in ticks(0, highest, 4):
        y = _y(share / highest)
        found.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 12}" y1="{y:.1f}" y2="{y:.1f}"/>')
        found.append(
            f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{share:.3g}</text>'.replace(f"{share:.3g}", f"{100 * share:.3g} %")
        )
    values = [10.0**n for n in range(math.floor(math.log10(max(edges[-1], 2))) + 1)] if log else ticks(edges[0], edges[-1])
    for value in values:
        found.append(f'<text x="{at(value):.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{_word(value)}</text>')
    found.append(f'<text class="title" x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{title}</text>')
    return "".join(found)


def _word(value: float) -> str:
    """A number as one would write it: 1,000, -0.25, 1.2e-05."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
