"""What each cell selected: domains, score histogram, length of documents, and some documents; texts are kept once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EACH = 6  # documents at either end of the scores
MAX_TEXT = 4_000_000  # characters of documents in a page; of those beyond, the id and the score are kept
KINDS = ("pool", "planted", "positive", "selected")


class Texts:
    """Documents by their id and text, each once."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str, str], int] = {}
        self.room = MAX_TEXT

    def place(self, document: Mapping[str, Any]) -> int:
        """Where the document is; its text is left out when the page is full."""
        text = str(document.get("text") or "")
        key = (str(document.get("id", "")), str(document.get("domain") or ""), text if len(text) <= self.room else "")
        if key not in self.kept:
            self.room -= len(key[2])
        return self.kept.setdefault(key, len(self.kept))


def embed_selected(compositions: list[dict[str, Any]], places: Mapping[str, int]) -> dict[str, Any]:
    """`selected`: a row for each cell that selected. Rows name `domains` and `documents` (id, domain, text) by their places."""
    texts, domains = Texts(), _domains(compositions)
    rows = [_row(content, places[content["cell"]], {name: at for at, name in enumerate(domains)}, texts) for content in compositions]
    return {"selected": rows, "domains": domains, "documents": [list(document) for document in texts.kept]}


def _domains(compositions: list[dict[str, Any]]) -> list[str]:
    """All names: first those with the largest share of a pool or of a selection; equal ones by name."""
    shares: dict[str, float] = {}
    for content in compositions:
        entries = content.get("domains") or []
        for side in ("pool", "selected"):
            whole = sum(entry.get(side, 0) for entry in entries) or 1
            for entry in entries:
                name = str(entry["domain"])
                shares[name] = max(shares.get(name, 0), entry.get(side, 0) / whole)
    return sorted(shares, key=lambda name: (-shares[name], name))


def _row(content: Mapping[str, Any], cell: int, domains: Mapping[str, int], texts: Texts) -> dict[str, Any]:
    row: dict[str, Any] = {"cell": cell}
    if content.get("domains"):
        row["domains"] = [[domains[str(entry["domain"])], entry.get("pool", 0), entry.get("selected", 0)] for entry in content["domains"]]
    if histogram := _histogram(content.get("histogram")):
        row["histogram"] = histogram
    length = content.get("length")
    if isinstance(length, Mapping) and {"pool_mean_tokens", "selected_mean_tokens"} <= length.keys():
        row["length"] = [round(length["pool_mean_tokens"], 2), round(length["selected_mean_tokens"], 2)]
    for side in ("highest", "lowest"):
        if content.get(side):
            row[side] = [_document(document, texts) for document in content[side][:EACH]]
    return row


def _histogram(histogram: Any) -> dict[str, Any] | None:
    if not isinstance(histogram, Mapping):
        return None
    edges = histogram.get("edges") or []
    kinds = {kind: histogram[kind] for kind in KINDS if len(edges) == len(histogram.get(kind) or []) + 1 and sum(histogram[kind])}
    return {"edges": [float(f"{edge:.4g}") for edge in edges]} | kinds if kinds else None


def _document(document: Mapping[str, Any], texts: Texts) -> list[Any]:
    """Place, score, whether it was selected, whether it was planted."""
    score = document.get("score")
    kept = float(f"{score:.4g}") if isinstance(score, int | float) else None
    return [texts.place(document), kept, int(bool(document.get("selected"))), int(bool(document.get("planted")))]
