"""The page's script: modules that name what they take from each other, and short files."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from dsel.report.script import EXPORT, IMPORT, bundle

MODULES = {path.stem: path.read_text(encoding="utf-8") for path in Path(str(files("dsel.report"))).glob("app/*.js")}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_what_others_export_and_uses_it(name: str) -> None:
    for names, other in IMPORT.findall(MODULES[name]):
        exported = {word for _, word in EXPORT.findall(MODULES[other])}
        for entry in names.strip("{ }").split(","):
            taken, _, own = entry.strip().partition(" as ")
            assert taken in exported, (name, other, taken)
            assert len(re.findall(rf"\b{own or taken}\b", MODULES[name])) > 1, (name, taken)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_short_and_never_makes_markup_of_text(name: str) -> None:
    text = MODULES[name]
    assert text.startswith("// ")  # says what it is for
    assert text.count("\n") < 200
    assert not [line for line in text.splitlines() if len(line) > 140]
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "fetch(", "import("):
        assert word not in text


def test_what_is_exported_is_used_elsewhere() -> None:
    taken = {
        entry.split(" as ")[0].strip()
        for text in MODULES.values()
        for names, _ in IMPORT.findall(text)
        for entry in names.strip("{ }").split(",")
    }
    exported = {word for text in MODULES.values() for _, word in EXPORT.findall(text)}
    assert not exported - taken


def test_a_bundle_has_each_module_once_after_what_it_imports() -> None:
    order = re.findall(r"^modules\.(\w+) = ", bundle("main"), re.M)
    assert set(order) == set(MODULES) - {"live"}
    assert len(order) == len(set(order))
    for name in order:
        for _, other in IMPORT.findall(MODULES[name]):
            assert order.index(other) < order.index(name)
    assert "import {" not in bundle("main")
    assert "EventSource" not in bundle("main")
    assert "EventSource" in bundle("main", "live")
