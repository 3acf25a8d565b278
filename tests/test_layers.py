"""The drawing of the architecture: which part of dsel may import which. Imports inside functions count; those for types do not.

report ── sweep   cli, run, pipeline, tracking, result          (the program)
                phase ── training                             (a run's links)
data   model   scorer   selector   estimator   online   executor   encoder   task_scorer   curvature          (components, side by side)
                protocol ── context                           (the waist)
sieve   stream   corpus   tokens   scores   selection   subset   features   state   objective   labelled   base_encoder
attribution   preconditioned   finished      (values)
error   artifact   outcome   pool   progress   remote   ray_cluster   functional      (the ground)
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import dsel

PACKAGE = Path(dsel.__file__).parent
GROUND = {"error", "artifact", "outcome", "pool", "progress", "remote", "ray_cluster", "functional"}
VALUES = {
    "sieve", "stream", "corpus", "labelled", "base_encoder", "tokens", "scores", "selection", "subset", "features", "state", "objective",
    "attribution", "preconditioned", "finished",
}  # fmt: skip
WAIST = {"protocol", "context"}
BELOW = GROUND | VALUES | WAIST
COMPONENTS = {"data", "model", "scorer", "selector", "estimator", "online", "executor", "encoder", "task_scorer", "curvature"}
MAY_IMPORT = {
    **dict.fromkeys(GROUND, GROUND),
    **dict.fromkeys(VALUES, GROUND | VALUES),
    "protocol": GROUND | VALUES,
    "context": GROUND | VALUES | {"protocol"},
    **{component: BELOW | {component} for component in COMPONENTS},
    "training": BELOW | {"training"},
    "phase": BELOW | {"training", "phase"},
    "report": {"error", "artifact", "functional", "outcome", "sweep"},
    "sweep": {"error", "artifact", "outcome", "progress", "report"},
    "build": {"error"},
    "result": {"error", "functional", "outcome", "state"},
    "cli": {"error", "outcome"},
    "tracking": {"build", "state"},
    "pipeline": BELOW | {"build"},
    "run": {"artifact", "build", "cli", "outcome", "pipeline", "progress", "result", "state", "sweep", "tracking"},
}


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`, which no program runs."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"):
            yield child
            yield from walk(child)


def modules() -> dict[str, ast.Module]:
    """Syntax trees by dotted name, without `dsel.`."""
    paths = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in paths.items() if not name.endswith("__init__")}


def imported(tree: ast.Module) -> set[str]:
    """Modules of ours that `tree` imports, without `dsel.`."""
    found = set()
    for node in walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dsel":
            inside = (node.module or "").partition(".")[2]
            names = [f"{inside}.{alias.name}".lstrip(".") for alias in node.names]
            found |= {name if name in MODULES else inside for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("dsel.")}
    return found


MODULES = modules()
IMPORTS = {name: imported(tree) for name, tree in MODULES.items()}


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_one_way(name: str) -> None:
    part = name.split(".")[0]
    assert {other.split(".")[0] for other in IMPORTS[name]} <= MAY_IMPORT[part] | ({part} if "." in name else set())


@pytest.mark.parametrize("path", sorted((PACKAGE.parent / "hydra_plugins" / "dsel").glob("*.py")), ids=lambda path: path.stem)
def test_what_hydra_must_find_stands_on_the_sweep(path: Path) -> None:
    parts = {other.split(".")[0] for other in imported(ast.parse(path.read_text(encoding="utf-8")))}
    assert parts <= {"error", "artifact", "functional", "outcome", "ray_cluster", "sweep"}


def test_there_is_no_circle() -> None:
    TopologicalSorter(IMPORTS).prepare()  # raises CycleError


def test_components_stand_side_by_side() -> None:
    for component in COMPONENTS - {"data"}:  # the data modules share their formats, the others nothing
        for name in (name for name in MODULES if name.startswith(f"{component}.")):
            assert not {other for other in IMPORTS[name] if other.startswith(f"{component}.")}, name


def test_init_files_are_empty() -> None:
    assert not [path for path in PACKAGE.rglob("__init__.py") if path.read_text(encoding="utf-8").strip()]


def test_one_place_makes_objects_of_config() -> None:
    calls = {name for name, tree in MODULES.items() for node in walk(tree) if isinstance(node, ast.alias) and node.name == "instantiate"}
    assert calls == {"build"}
