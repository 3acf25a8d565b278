from __future__ import annotations

import json
import time
from dataclasses import replace
from importlib.metadata import version

import pyarrow.compute as pc
import pytest

from dsel.data.docstrings import parse
from dsel.data.installed_docs import USUAL, InstalledDocs, find_version
from dsel.error import InputError
from dsel.sieve import draw

SMALL = InstalledDocs(target="networkx", packages=["hydra", "filelock"], num_workers=1)


def test_workers_do_not_change_the_result() -> None:
    one, two = SMALL.read(), replace(SMALL, num_workers=2).read()
    assert one.source.equals(two.source)
    assert one.target.equals(two.target)
    assert one.dropped == two.dropped


def test_documents() -> None:
    docs = SMALL.read()
    assert set(docs.source["domain"].to_pylist()) == {"hydra", "filelock"}
    assert set(docs.target["domain"].to_pylist()) == {"networkx"}
    ids = docs.source["id"].to_pylist() + docs.target["id"].to_pylist()
    assert len(set(ids)) == len(ids)
    assert "networkx.algorithms.link_analysis.pagerank_alg.pagerank" in ids
    for table in (docs.source, docs.target):
        assert pc.min(pc.utf8_length(table["text"])).as_py() >= 200
        assert table["dsel_row"].to_pylist() == sorted(table["dsel_row"].to_pylist())
    assert docs.target.num_rows > 1000
    assert docs.facts["versions"] == {
        "networkx": version("networkx"),
        "hydra": version("hydra-core"),
        "filelock": version("filelock"),
    }


def test_sampling_is_stable_and_counted() -> None:
    whole, part = SMALL.read(), replace(SMALL, max_documents=20, max_target=100).read()
    more = replace(SMALL, max_documents=30, max_target=200).read()
    assert (part.source.num_rows, part.target.num_rows) == (20, 100)
    assert set(part.target["id"].to_pylist()) < set(more.target["id"].to_pylist()) < set(whole.target["id"].to_pylist())
    assert set(part.source["domain"].to_pylist()) == {"hydra", "filelock"}
    assert part.dropped["target"]["over_limit"] == whole.target.num_rows - 100
    other = replace(SMALL, max_documents=20, max_target=100, seed=1).read()
    assert other.target["id"].to_pylist() != part.target["id"].to_pylist()


def test_max_characters_cuts() -> None:
    docs = replace(SMALL, max_characters=250).read()
    assert pc.max(pc.utf8_length(docs.target["text"])).as_py() == 250


def test_identity_is_cheap_and_tells() -> None:
    find_version.cache_clear()
    start = time.perf_counter()
    identity = InstalledDocs().identity()
    assert time.perf_counter() - start < 1  # 0.03 s on an idle machine
    assert json.loads(json.dumps(identity)) == identity
    assert identity["versions"]["networkx"] == version("networkx")
    assert "stdlib" in identity["versions"]
    assert InstalledDocs(seed=1).identity() != identity
    assert InstalledDocs(num_workers=1).identity() == identity
    assert set(identity["versions"]) <= set(USUAL)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "no_such_package"}, ["data.target=no_such_package", "networkx", "stdlib"]),
        ({"packages": ["hydra", "nowhere"]}, ["data.packages=nowhere", "not installed"]),
        ({"packages": []}, ["source", "data.packages="]),
        ({"packages": ["filelock"], "min_characters": 10**6}, ["data.min_characters="]),
    ],
)
def test_bad_input(options: dict[str, object], words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        InstalledDocs(**{"num_workers": 1, "target": "hydra", **options}).read()  # type: ignore[arg-type]
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_constructor_checks() -> None:
    for key in ("max_documents", "max_target", "num_workers"):
        with pytest.raises(InputError, match=f"data.{key}=0"):
            InstalledDocs(**{key: 0})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"data\.max_characters=10"):
        InstalledDocs(max_characters=10)


def test_parse() -> None:
    source = b'''"""Module."""
if True:
    class A:
        """  Class.

          Indented.
        """
        def f(self): "short"
        x = "\\d"
try:
    def g(): """half \\ud800 pair"""
except ImportError:
    async def h(): """h"""
'''
    found = parse(source, "m")
    assert [(name, text) for name, _, text in found] == [
        ("m", "Module."), ("m.A", "Class.\n\nIndented."), ("m.A.f", "short"), ("m.g", "half ? pair"), ("m.h", "h"),
    ]  # fmt: skip


@pytest.mark.parametrize("source", [b"'''\x00'''", b'"""\xff"""', b"print '''x'''", b"# coding: nowhere\n'''x'''", b""])
def test_parse_gives_nothing_for_what_is_no_python(source: bytes) -> None:
    assert parse(source, "m") == []


def test_draw_does_not_depend_on_company() -> None:
    assert draw(["a", "b", "c"], 0)[1] == draw(["b"], 0)[0] != draw(["b"], 1)[0]
