"""Tallies of parts against numpy and Counter on the whole."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from dsel.functional import tally
from dsel.functional.tally import Domains, Histogram, Lengths, Range, length_edges

RNG = np.random.default_rng(0)
SCORES = RNG.normal(3, 2, 5000).astype(np.float32)


def parts(values: np.ndarray) -> list[np.ndarray]:
    return np.split(values, [0, 7, 1200, 1200, 4000])


def test_a_histogram_of_parts_is_that_of_the_whole() -> None:
    found = Range(len(SCORES))
    for part in parts(SCORES):
        found.add(part)
    histogram = Histogram(found.edges())
    for part in parts(SCORES):
        histogram.add("pool", part)
    assert (found.low, found.high) == (SCORES.min(), SCORES.max())
    record = histogram.record()
    np.testing.assert_allclose(record["edges"], np.linspace(float(SCORES.min()), float(SCORES.max()), 51))
    assert record["pool"] == np.histogram(SCORES.astype(np.float64), 50)[0].tolist()


def test_outliers_do_not_squash_the_rest_and_are_counted() -> None:
    values = np.append(SCORES, [1e6, -1e6]).astype(np.float32)
    found = Range(len(values))
    found.add(values)
    edges = found.edges()
    np.testing.assert_allclose([edges[0], edges[-1]], np.quantile(values, [0.001, 0.999]), rtol=1e-6)
    histogram = Histogram(edges)
    histogram.add("pool", values)
    assert sum(histogram.record()["pool"]) == len(values)


@pytest.mark.parametrize("values", [[], [2.5], [0.0, 0.0], [-1e30, -1e30]])
def test_edges_of_next_to_nothing(values: list[float]) -> None:
    found = Range(len(values))
    found.add(np.array(values, np.float32))
    histogram = Histogram(found.edges())
    histogram.add("pool", np.array(values, np.float32))
    assert (np.diff(histogram.edges) > 0).all()
    assert sum(histogram.record()["pool"]) == len(values)


def test_lengths_of_parts() -> None:
    values = RNG.integers(0, 3000, 5001)
    lengths = Lengths()
    for part in parts(values):
        lengths.add(part)
    record = lengths.record()
    assert record["mean"] == pytest.approx(values.mean())
    assert record["deciles"] == np.quantile(values, np.linspace(0, 1, 11), method="inverted_cdf").tolist()
    edges = length_edges(int(values.max()))
    assert lengths.binned(edges) == np.histogram(values, edges)[0].tolist()
    assert sum(lengths.binned(edges)) == len(values)


def test_lengths_beyond_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "LONGEST", 10)
    lengths = Lengths()
    lengths.add(np.array([1, 2, 1000]))
    record = lengths.record()
    assert (record["mean"], record["deciles"][0], record["deciles"][5], record["deciles"][10]) == (pytest.approx(1003 / 3), 1, 2, 10)
    assert sum(lengths.binned(length_edges(1000))) == 3


def test_domains_before_and_after() -> None:
    names = [f"d{n}" for n in RNG.zipf(1.5, 3000).clip(max=40)]
    chosen = RNG.random(3000) < 0.2
    domains = Domains()
    for one, some in zip(parts(np.array(names)), parts(chosen), strict=True):
        domains.add(pa.chunked_array([pa.array(one.tolist(), pa.string())]), some)
    rows = domains.record(top=5)
    before, after = Counter(names), Counter(name for name, one in zip(names, chosen, strict=True) if one)
    assert len(rows) == 6
    assert all((row["pool"], row["selected"]) == (before[row["domain"]], after[row["domain"]]) for row in rows[:5])
    assert rows[5]["domain"] == "other"
    assert (sum(row["pool"] for row in rows), sum(row["selected"] for row in rows)) == (3000, chosen.sum())
    larger = {name: max(before[name] / 3000, after[name] / chosen.sum()) for name in before}
    assert [row["domain"] for row in rows[:5]] == sorted(before, key=lambda name: (-larger[name], name))[:5]


def test_a_document_without_a_domain_and_a_domain_that_only_the_selection_is_full_of() -> None:
    domains = Domains()
    domains.add(pa.chunked_array([pa.array(["a"] * 98 + ["b", None])]), np.r_[np.zeros(98, bool), True, True])
    assert domains.record(top=2) == [
        {"domain": "a", "pool": 98, "selected": 0},
        {"domain": "(none)", "pool": 1, "selected": 1},
        {"domain": "other", "pool": 1, "selected": 1},
    ]


def test_more_domains_than_memory_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "MOST_DOMAINS", 4)
    domains = Domains()
    for start in range(3):
        names = ["large"] * 10 + [f"{start}-{n}" for n in range(6)]
        domains.add(pa.chunked_array([pa.array(names)]), np.ones(16, bool))
    rows = domains.record()
    assert len(domains.pool) <= 5
    assert {"domain": "large", "pool": 30, "selected": 30} in rows
    assert sum(row["pool"] for row in rows) == sum(row["selected"] for row in rows) == 48
