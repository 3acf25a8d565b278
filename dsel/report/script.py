"""The page's own script: the modules of `app/`, each in a scope of its own, after those that it imports."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./(\w+)\.js";$', re.M)
EXPORT = re.compile(r"^export (const|function) (\w+)", re.M)


@cache
def bundle(*names: str) -> str:
    """One script that does what the modules `names` do. Nothing is compiled: an import takes names out of an object, and a module's exports
    are what its scope gives back. A page that is opened from disk may not import modules."""
    order: dict[str, str] = {}
    for name in names:
        _add(name, order)
    parts = [_scope(name, text) for name, text in order.items()]
    return '(() => {\n"use strict";\nconst modules = {};\n' + "".join(parts) + "})();\n"


def _add(name: str, order: dict[str, str]) -> None:
    if name not in order:
        text = files("dsel.report").joinpath(f"app/{name}.js").read_text(encoding="utf-8")
        for _, other in IMPORT.findall(text):
            _add(other, order)
        order[name] = text


def _scope(name: str, text: str) -> str:
    exported = ", ".join(word for _, word in EXPORT.findall(text))
    body = EXPORT.sub(r"\1 \2", IMPORT.sub(lambda found: f"const {found[1].replace(' as ', ': ')} = modules.{found[2]};", text))
    return f"modules.{name} = (() => {{\n{body}return {{ {exported} }};\n}})();\n"
