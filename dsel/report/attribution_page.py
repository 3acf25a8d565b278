"""The report of an attribution: in the terminal, and a page where query, prediction and examples stand side by side."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from dsel.artifact import write_atomic
from dsel.report.attribution import SIGNS, Attribution, to_table
from dsel.report.template import fill

TABLE, TEMPLATE = "attributions.parquet", "attribution.html.jinja"
SHOWN, CHARACTERS = 3, 90  # examples of a query in the terminal, and how much of each
LEVELS = 8  # shades of a token's colour


def build_attribution(attribution: Attribution, quiet: bool = False) -> Path:
    """Write attributions.parquet and report.html into the run's folder; prints the first examples and the path unless `quiet`."""
    page = attribution.folder / "report.html"
    buffer = io.BytesIO()
    to_table(attribution).write_parquet(buffer)
    write_atomic(attribution.folder / TABLE, buffer.getvalue())
    write_atomic(page, render(attribution))
    if not quiet:
        from rich.console import Console

        console = Console(highlight=False)
        console = console if console.is_terminal else Console(highlight=False, width=120)  # a log file has no edge
        for line in lines(attribution):
            console.print(line, markup=False, overflow="ellipsis", no_wrap=True)
        console.print(f"report: {page}", markup=False, soft_wrap=True)
    return page


def lines(attribution: Attribution) -> list[str]:
    """For the terminal: of each query the first examples of each kind."""
    found = []
    for query, row in enumerate(attribution.queries.to_dicts()):
        told = ", ".join(f"{name} {row[f'loss_{name}']:.3f}" for name in attribution.losses)
        found += [f"query {row['id']}: {shorten(row['text'])}", f"  loss, nats a token: {told}"]
        for side in attribution.sides:
            for sign in SIGNS:
                for example in side.of(query, sign)[:SHOWN]:
                    found.append(f"  {side.name} {sign} {example['rank']}  {number(example['score'])}  {shorten(example['text'])}")
    return found


def shorten(text: str) -> str:
    """The beginning of a text, in one line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= CHARACTERS else f"{flat[: CHARACTERS - 1]}…"


def number(value: float) -> str:
    """A score with its sign."""
    return f"{value:+.3g}".replace("-", "\N{MINUS SIGN}")


def render(attribution: Attribution) -> str:
    """The page: text is escaped, nothing is asked of the network."""
    import yaml

    record = attribution.record
    return fill(
        TEMPLATE,
        title="Which examples made these predictions?",
        queries=[_query(attribution, query, row) for query, row in enumerate(attribution.queries.to_dicts())],
        scorer=str(((record.get("config") or {}).get("scorer") or {}).get("_target_", "")).rpartition(".")[2],
        config=yaml.safe_dump(record.get("config", {}), sort_keys=False, allow_unicode=True, width=110),
        versions={**record.get("versions", {}), "git commit": record.get("git_commit"), "device": record.get("cost", {}).get("device")},
        phases=record.get("cost", {}).get("phases", {}),
    )


def _query(attribution: Attribution, query: int, row: dict[str, Any]) -> dict[str, Any]:
    shown = zip(row.get("tokens") or [], row.get("losses") or [], row.get("expected") or [], strict=True)
    return {
        "id": row["id"],
        "text": row["text"],
        "question": row.get("src") if row.get("tokens") else None,
        "losses": {name: row[f"loss_{name}"] for name in attribution.losses},
        "tokens": [
            {"text": token, "level": min(LEVELS, round(loss)), "title": f"{loss:.2f} nats; expected {expected!r}"}
            for token, loss, expected in shown
        ],
        "sides": [
            {
                "name": side.name,
                "groups": _groups(side.groups_of(query)),
                "columns": [{"sign": sign, "examples": [_example(each) for each in side.of(query, sign)]} for sign in SIGNS],
            }
            for side in attribution.sides
        ],
    }


def _groups(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With start and width of a bar from the middle, in percent."""
    widest = max((abs(each["score"]) for each in groups), default=0.0) or 1.0
    shares = [50 * each["score"] / widest for each in groups]
    return [
        {"group": each["group"], "units": each["units"], "score": number(each["score"]), "left": 50 + min(share, 0), "width": abs(share)}
        for each, share in zip(groups, shares, strict=True)
    ]


def _example(row: dict[str, Any]) -> dict[str, Any]:
    """Its tokens with the shade of what each adds: of the example's own largest."""
    adds = row.get("contributions") or []
    widest = max((abs(value) for value in adds), default=0.0) or 1.0
    tokens = [
        {"text": token, "level": round(LEVELS * abs(value) / widest), "helps": value > 0, "title": number(value)}
        for token, value in zip(row.get("tokens") or [], adds, strict=True)
    ]
    return {"rank": row["rank"], "score": number(row["score"]), "id": row["id"], "row": row["dsel_row"], "domain": row.get("domain"),
            "text": row["text"], "question": row.get("src") if tokens else None, "tokens": tokens}  # fmt: skip
