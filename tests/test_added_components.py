"""The components that docs/ adds as examples do what their pages say: in a copy of the tree, beside all that is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import ROOT
from document import Document

PAGES = [Document(ROOT / "docs" / name) for name in ("add_a_scorer.md", "add_a_component.md")]
FILES = {path: text for page in PAGES for path, text in page.files().items()}
NAMES = [Path(path).stem for path in FILES if path.startswith("dsel/")]
OWN = [path for path in FILES if path.startswith("tests/")]
CONTRACT = ["tests/test_contract.py", "tests/test_task_contract.py"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code, the config and the tests, and the pages' files among them."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in ("dsel", "conf", "tests", "hydra_plugins"):
        if (ROOT / folder).is_dir():
            shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    for path, text in FILES.items():
        assert not (tree / path).exists(), f"{path} is there already"
        (tree / path).parent.mkdir(exist_ok=True)
        (tree / path).write_text(text, encoding="utf-8")
    return tree


def run(tree: Path, *arguments: str) -> str:
    """What a command of Python's says in the tree. Errors: it fails."""
    env = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=tree, env=env, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


def test_every_example_is_three_files() -> None:
    assert len(NAMES) == 10
    for name in NAMES:
        assert len([path for path in FILES if Path(path).stem in (name, f"test_{name}")]) == 3


def test_they_pass_their_own_tests_and_fit_in(tree: Path) -> None:
    everything = run(tree, "pytest", "-q", "-p", "no:cacheprovider", *OWN, "tests/test_conf.py", "tests/test_layers.py")
    assert "skipped" not in everything


@pytest.mark.slow
def test_they_keep_the_contract(tree: Path) -> None:
    run(tree, "pytest", "-q", "-p", "no:cacheprovider", *CONTRACT, "-k", " or ".join(NAMES))


def test_they_are_tidy(tree: Path) -> None:
    paths = [path for path in FILES if path.endswith(".py")]
    run(tree, "ruff", "check", *paths)
    run(tree, "ruff", "format", "--check", *paths)


@pytest.mark.slow
def test_they_are_typed(tree: Path) -> None:
    run(tree, "mypy", *[path for path in FILES if path.startswith("dsel/") and path.endswith(".py")])
