"""Docstrings of Python source files, parsed and never imported. Needs the standard library alone, for fast workers."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Sequence
from inspect import cleandoc
from pathlib import Path

Docstring = tuple[str, int, str]  # qualified name, line, text
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def harvest(files: Sequence[tuple[str, str]]) -> list[list[Docstring]]:
    """For each (path, module name) the docstrings of the module, its classes and functions, in order of lines."""
    return [parse(Path(path).read_bytes(), module) for path, module in files]


def parse(source: bytes, module: str) -> list[Docstring]:
    """The docstrings in `source`, none where it does not parse; functions inside functions are left out."""
    tree = parse_tree(source)
    if tree is None:
        return []
    found = [(module, 0, ast.get_docstring(tree, clean=False))]
    found += [(name, node.lineno, ast.get_docstring(node, clean=False)) for name, node in _definitions(tree.body, module)]
    return [(name, line, clean(text)) for name, line, text in sorted(found, key=lambda f: f[1]) if text]


def parse_tree(source: bytes) -> ast.Module | None:
    """The syntax tree; None where it does not parse, or where it is not worth it: no docstring of more than one line."""
    if b'"""' not in source and b"'''" not in source:
        return None
    try:
        with warnings.catch_warnings():  # other people's invalid escapes are none of the user's business
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # templates, null bytes, Python 2, deep nesting
        return None


def _definitions(body: Sequence[ast.AST], prefix: str) -> Iterator[tuple[str, Definition]]:
    for node in body:
        if isinstance(node, Definition):
            name = f"{prefix}.{node.name}"
            yield name, node
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node.body, name)
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ExceptHandler):
            yield from _definitions(list(ast.iter_child_nodes(node)), prefix)


def clean(text: str) -> str:
    """The text without indentation; half surrogate pairs, which no file can hold, become question marks."""
    return cleandoc(text).strip().encode("utf-8", "replace").decode()
