"""What has a docstring in Python source files, and what the source says of it; parsed and never imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dsel.data.docstrings import Definition, clean, parse_tree

KINDS = ("class", "function", "method", "module")
FEWEST_WORDS = 4  # of a summary


class Documented(NamedTuple):
    """What has a docstring: `name` is qualified, `summary` the text's first paragraph on a line, `parameters` without self and cls."""

    package: str
    kind: str
    name: str
    text: str
    summary: str
    bases: Sequence[str] = ()
    parameters: Sequence[str] = ()
    num_defaults: int = 0

    @property
    def words(self) -> list[str]:
        """Of the summary."""
        return re.findall(r"\w[\w'-]*", self.summary)

    @property
    def bare(self) -> str:
        """The name without what it is in."""
        return self.name.rpartition(".")[2]

    @property
    def titled(self) -> str:
        """The bare name and the summary."""
        return f"{self.bare}: {self.summary}"


def parse(source: bytes, module: str, package: str) -> Iterator[Documented]:
    """What has a docstring of a few words in `source`; nothing where it does not parse."""
    tree = parse_tree(source)
    if tree is None:
        return
    for kind, name, node in ("module", module, tree), *_definitions(tree.body, module, "function"):
        text = clean(ast.get_docstring(node, clean=False) or "")
        doc = Documented(package, kind, name, text, " ".join(text.partition("\n\n")[0].split()), *_signature(node))
        if len(doc.words) >= FEWEST_WORDS:
            yield doc


def _definitions(body: Sequence[ast.AST], prefix: str, kind: str) -> Iterator[tuple[str, str, Definition]]:
    """Kind, qualified name and node of each; `kind` is that of functions. Functions inside functions are left out."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield "class", f"{prefix}.{node.name}", node
            yield from _definitions(node.body, f"{prefix}.{node.name}", "method")
        elif isinstance(node, Definition):
            yield kind, f"{prefix}.{node.name}", node
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ExceptHandler):
            yield from _definitions(list(ast.iter_child_nodes(node)), prefix, kind)


def _signature(node: ast.Module | Definition) -> tuple[list[str], list[str], int]:
    """Bases of a class; parameters of a function without self and cls, and how many have defaults."""
    if isinstance(node, ast.ClassDef):
        return [ast.unparse(base).rpartition(".")[2] for base in node.bases], [], 0
    if isinstance(node, ast.Module):
        return [], [], 0
    given = node.args
    names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    defaults = len(given.defaults) + sum(each is not None for each in given.kw_defaults)
    return [], [name for name in names if name not in ("self", "cls")], defaults
