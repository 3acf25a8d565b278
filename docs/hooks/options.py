"""The options of every component as Markdown, read from conf/ and from the constructors: nothing of it is written by hand."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from hydra.utils import get_object

from dsel.build import describe

CONF = Path(__file__).parents[2] / "conf"
GROUPS = {
    "data": "Where documents, pairs and tasks come from.",
    "model": "What is trained, and what it learns.",
    "scorer": "What gives every unit a number, larger = keep.",
    "selector": "What chooses units within the budget.",
    "online": "What chooses inside of the training step.",
    "estimator": "What says how good a model of a subset of tasks would be.",
    "curvature": "How products with the inverse of a training loss's curvature are had.",
    "encoder": "What tasks are learnt from, where they are ranked.",
    "task_scorer": "What ranks source tasks for a target.",
    "executor": "Where fitted scores are mapped over the pool.",
    "phase": "The links of a run. An experiment places each under a name, by `/phase@phases.NAME: train`; its keys are `phases.NAME.KEY=`.",
}
LINE = re.compile(r"^(\w+):[ ]*([^#\n]*?)(?:\s+# (.*))?$", re.MULTILINE)
PAPER = re.compile(r"((?:arXiv )?(\d{4}\.\d{5}))")


@dataclass(frozen=True)
class Option:
    """A yaml of a group: its name, the class it makes, the value of each key, and what its comments say of keys and of the whole."""

    name: str
    target: str
    values: dict[str, str]
    said: dict[str, str]
    header: str


def read_option(path: Path) -> Option:
    """Errors: no `_target_`."""
    text = path.read_text(encoding="utf-8")
    node: dict[str, Any] = yaml.safe_load(text)
    lines = {key: (typed, comment) for key, typed, comment in LINE.findall(text)}
    values = {key: _show(value, lines[key][0]) for key, value in node.items() if key not in ("_target_", "defaults")}
    for entry in node.get("defaults", []):
        for key, placed in _place(entry, path.parent.name).items():
            before = values.get(key, "")
            values[key] = ", ".join(filter(None, (before, placed) if "=" in before else (placed, before)))
    said = {key: comment for key, (_, comment) in lines.items() if comment}
    header = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("# "))
    return Option(path.stem, node["_target_"], values, said, header)


def describe_group(group: str) -> str:
    """A page: a section a class, in the order of the names, with a column of values for each of its yaml files."""
    by_class: dict[str, list[Option]] = {}
    for path in sorted((CONF / group).glob("*.yaml")):
        option = read_option(path)
        by_class.setdefault(option.target, []).append(option)
    taken = "" if group == "phase" else f" `{group}=NAME` takes another one."
    parts = [f"# Options: {group}\n\n{GROUPS[group]}{taken} Values are what holds if nothing is said; `???` has to be given."]
    return "\n\n".join([*parts, *(_section(group, options) for options in by_class.values())]) + "\n"


def describe_component(group: str, names: Sequence[str]) -> str:
    """What one class says of itself, and the table of its options."""
    options = [read_option(CONF / group / f"{name}.yaml") for name in names]
    return f"{_docstring(options[0])}\n\n{_table(group, options)}"


def _section(group: str, options: list[Option]) -> str:
    choices = ", ".join(f"`{option.name}`" for option in options)
    alone = len(options) == 1
    headers = [("" if alone else f"`{option.name}`: ") + _plain(option.header) for option in options if option.header]
    anchor = f"{{ #{options[0].name} }}"
    parts = [f"## {choices} {anchor}", f"`{options[0].target}`", _docstring(options[0]), *headers, _table(group, options)]
    return "\n\n".join(part for part in parts if part)


def _table(group: str, options: Sequence[Option]) -> str:
    made = get_object(options[0].target)
    hints = get_type_hints(made)
    keys = list(dict.fromkeys(key for option in options for key in option.values))
    if not keys:
        return "It has no options."
    prefix = "" if group == "phase" else f"{group}."
    heads = ["value"] if len(options) == 1 else [f"`{option.name}`" for option in options]
    rows = [["key", "type", *heads, ""], ["---"] * (3 + len(options))]
    for key in keys:
        said = next((option.said[key] for option in options if key in option.said), "")
        values = [f"`{option.values[key]}`" if key in option.values else "" for option in options]
        rows.append([f"`{prefix}{key}`", _type(hints[key]), *values, _plain(said)])
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)


def _type(hint: Any) -> str:
    """In words, as in the message about a wrong value."""
    told = describe(hint)
    return "a component" if told[0].isupper() else _plain(told)


def _docstring(option: Option) -> str:
    """Paragraphs with line breaks taken out, indented ones as code."""
    paragraphs = (inspect.getdoc(get_object(option.target)) or "").split("\n\n")
    return "\n\n".join(part if part.startswith("    ") else _plain(" ".join(part.split())) for part in paragraphs)


def _plain(text: str) -> str:
    """Papers as links, and nothing that Markdown would take for HTML."""
    pieces = text.split("`")
    pieces[::2] = [PAPER.sub(r"[\1](https://arxiv.org/abs/\2)", piece.replace("<", "&lt;")) for piece in pieces[::2]]
    return "`".join(pieces)


def _place(entry: str | dict[str, str], group: str) -> dict[str, str]:
    """By key, the component that an entry of `defaults` places there, such as `/estimator@estimator: gradex` or `cds@scorers.cds`."""
    source, choice = next(iter(entry.items())) if isinstance(entry, dict) else (entry, "")
    source, _, place = source.lstrip("/").partition("@")
    if not place:
        return {}
    return {place.split(".")[0]: f"{source}={choice}" if choice else f"{group}={source}"}


def _show(value: Any, typed: str) -> str:
    """A value as it is typed, on one line; a component by the name of its class."""
    if isinstance(value, dict):
        target = value.get("_target_")
        return target.rpartition(".")[2] if target else "{" + ", ".join(f"{key}: {item}" for key, item in value.items()) + "}"
    return typed if typed or not isinstance(value, list) else ", ".join(map(str, value))
