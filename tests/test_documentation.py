"""The pages under docs/ keep their word: commands run or compose, messages and numbers stand where the pages say."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import ROOT, TINY, TINY_CDS, dsel
from document import Document, build_command
from made_up_corpus import POOL_DOMAINS, TARGET_DOMAIN, documents, write_jsonl

from dsel import cli

PAGES = {path.stem: Document(path) for path in sorted((ROOT / "docs").glob("*.md"))}
COMMANDS = [(name, words) for name, page in PAGES.items() for marked in (True, False) for words in page.dsel(marked)]
MARKED = [words for page in PAGES.values() for words in page.dsel(True)]
QUOTING = ["complementarity", "loss_masking", "gradex", "space_maps", "influence", "methods", "tasks", "first_task"]  # numbers
ROWS = ["complementarity", "loss_masking", "gradex", "space_maps"]  # tables as they stand in an experiment
NUMBER = re.compile(r"(?<![\w.,-])(?!\d{4}\.\d{5})\d*\.\d+(?![\w.]*\w)")
RESULTS = re.compile(r"\]\(\.\./(experiments/\w+/README\.md)\)")


def name_of(words: list[str]) -> str:
    return " ".join(words)


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: value if isinstance(value, str) else name_of(value))
def test_every_command_builds(page: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, text in PAGES[page].files().items():  # components that the page adds
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    for folder in (tmp_path / "dsel").glob("*"):
        package = import_module(f"dsel.{folder.name}")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    build_command(words, more=tmp_path / "conf")


@pytest.mark.parametrize("words", MARKED, ids=name_of)
def test_marked_commands_run(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pool = [row for domain in (*POOL_DOMAINS, TARGET_DOMAIN) for row in documents(domain, 15)]
    mine = documents(TARGET_DOMAIN, 20, seed=1)
    for name, rows in (("pool", pool), ("mine", mine)):
        pairs = [{**row, "src": row["text"], "tgt": " ".join(reversed(row["text"].split()))} for row in rows]
        pq.write_table(pa.Table.from_pylist(pairs), f"{name}.parquet")
        write_jsonl(Path(f"{name}.jsonl"), rows)
    Path("pool").mkdir()
    pq.write_table(pa.Table.from_pylist(pool), "pool/all.parquet")
    small = TINY_CDS if "scorer=cds" in words else []
    answer = dsel(
        *words, *TINY, *small, *["budget.units=5" for word in words if word.startswith("budget.units=")], outputs=tmp_path / "outputs"
    )
    assert (answer.code, answer.err) == (0, "")
    for output in (word.partition("=")[2] for word in words if word.startswith("output=")):
        assert (tmp_path / output).is_file()


def test_every_experiment_is_on_a_page() -> None:
    named = {word.partition("=")[2] for _, words in COMMANDS for word in words if word.startswith("experiment=")}
    assert {path.stem for path in (cli.CONF / "experiment").glob("*.yaml")} == named


@cache
def messages() -> list[str]:
    """Every text of the code, with … for what is filled in."""
    paths = [*cli.PACKAGE.rglob("*.py"), *(cli.PACKAGE.parent / "hydra_plugins").rglob("*.py")]
    return [text for path in paths for text in texts(ast.parse(path.read_text(encoding="utf-8")))]


def texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


QUOTED = re.findall(r"^\| `([^`]+)` \|", PAGES["errors"].text, re.MULTILINE)


def test_there_are_messages() -> None:
    assert len(QUOTED) > 50
    assert len(set(QUOTED)) == len(QUOTED)


@pytest.mark.parametrize("quoted", QUOTED)
def test_every_message_is_one_of_the_code(quoted: str) -> None:
    fragments = quoted.split("…")
    assert max(map(len, fragments)) > 10, "too little to be found"
    pattern = re.compile(".*".join(map(re.escape, fragments)), re.DOTALL)
    assert any(pattern.search(message) for message in messages())


def linked(page: Document) -> str:
    """The experiments' pages that a page links."""
    return "\n".join(Path(ROOT, link).read_text(encoding="utf-8") for link in sorted(set(RESULTS.findall(page.text))))


def numbers(text: str) -> set[str]:
    """Numbers with a point in running text and tables, without a 0 before it."""
    plain = re.sub(r"```.*?```|\$\$.*?\$\$|\$[^$\n]+\$|`[^`\n]+`|\]\([^)]*\)", " ", text, flags=re.DOTALL)
    return {number.lstrip("0") for number in NUMBER.findall(plain)}


@pytest.mark.parametrize("name", QUOTING)
def test_numbers_are_those_of_the_experiments_that_the_page_links(name: str) -> None:
    page = PAGES[name]
    assert numbers(page.text)
    assert numbers(page.text) - numbers(linked(page)) == set()


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_results_are_rows_of_an_experiment(name: str) -> None:
    page = PAGES[name]
    known = [cells(line) for line in linked(page).splitlines() if line.startswith("|")]
    own = [line for line in page.text.splitlines() if line.startswith("|") and "±" in line and "](" not in line]
    assert own
    assert [line for line in own if not any(cells(line) <= row for row in known)] == []


def cells(line: str) -> set[str]:
    return {cell.strip().replace("**", "") for cell in line.split("|")} - {""}


def test_links_to_files_exist() -> None:
    for name, page in PAGES.items():
        for link in re.findall(r"\]\(([^)\s]+)\)", page.text):
            path = link.partition("#")[0]
            if path and not path.startswith(("http", "options/")):
                assert os.path.lexists(ROOT / "docs" / path), f"{name}: {link}"
