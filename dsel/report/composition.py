"""Frames for the figures on what was selected: shares of domains, histograms of scores."""

from __future__ import annotations

from typing import Any

import polars as pl

KEYS = ("series", "x_text", "group")


def domain_shares(compositions: list[dict[str, Any]]) -> pl.DataFrame:
    """A row for each group and domain: KEYS, domain, pool, selected (shares in 0..1, means over seeds)."""
    rows = []
    for content in compositions:
        domains = content.get("domains", [])
        pool, selected = (sum(entry.get(name, 0) for entry in domains) for name in ("pool", "selected"))
        for entry in domains if pool and selected else []:
            row = {
                "domain": str(entry["domain"]),
                "pool": entry.get("pool", 0) / pool,
                "selected": entry.get("selected", 0) / selected,
            }
            rows.append({key: content[key] for key in KEYS} | {"seed": content["seed"]} | row)
    if not rows:
        return pl.DataFrame()
    frame = pl.DataFrame(rows, infer_schema_length=None)
    seeds = pl.col("seed").n_unique().over("group")  # a domain that is absent in a seed counts as 0 there
    shares = [(pl.col(name) / seeds).alias(name) for name in ("pool", "selected")]
    return frame.with_columns(shares).group_by(*KEYS, "domain", maintain_order=True).agg(pl.col("pool", "selected").sum())


def score_histogram(compositions: list[dict[str, Any]]) -> pl.DataFrame:
    """A row for each series, kind and bin: series, kind, low, high, share (of the kind's documents).

    The first cell of each series stands for it: seeds and budgets have bins of their own.
    """
    rows = []
    for content in _first_of_series(compositions, "histogram"):
        edges = content["histogram"].get("edges", [])
        for kind in ("pool", "planted", "positive", "selected"):
            counts = content["histogram"].get(kind) or []
            if len(edges) != len(counts) + 1 or not sum(counts):
                continue
            bins = zip(edges[:-1], edges[1:], counts, strict=True)
            rows += [
                {
                    "series": content["series"],
                    "kind": kind,
                    "low": float(low),
                    "high": float(high),
                    "share": count / sum(counts),
                }
                for low, high, count in bins
            ]
    return pl.DataFrame(rows, infer_schema_length=None) if rows else pl.DataFrame()


def _first_of_series(compositions: list[dict[str, Any]], *keys: str) -> list[dict[str, Any]]:
    first: dict[str, dict[str, Any]] = {}
    for content in compositions:
        if any(content.get(key) for key in keys):
            first.setdefault(content["series"], content)
    return list(first.values())
