"""Markdown files that keep their word: their commands, their code, their numbers."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from made_up_corpus import resolve

from dsel import cli
from dsel.build import check
from dsel.pipeline import Run

BLOCK = re.compile(r"(<!-- test -->\n)?```sh\n(.*?)```", re.DOTALL)
VARIABLE = re.compile(r"\$\(\(.*?\)\)|\$\([^()]*\)|\$\w+")  # of the shell; anything will do
CODE = re.compile(r"\*\*(?:\d\. )?`((?:conf|dsel|tests)/[\w/.]+)`\*\*[^\n]*\n\n```(?:python|yaml)\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Document:
    """A Markdown file."""

    path: Path

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def commands(self, marked: bool) -> list[list[str]]:
        """The words of each command of the blocks that are, or are not, marked to be run."""
        blocks = [VARIABLE.sub("1", block.replace("\\\n", " ")) for mark, block in BLOCK.findall(self.text) if bool(mark) == marked]
        return [words for block in blocks for line in block.splitlines() if (words := shlex.split(line, comments=True))]

    def dsel(self, marked: bool) -> list[list[str]]:
        """The arguments of its `dsel` commands."""
        return [words[1:] for words in self.commands(marked) if words[0] == "dsel"]

    def files(self) -> dict[str, str]:
        """The files that it shows whole: by the path that stands before a block, the block."""
        return dict(CODE.findall(self.text))


def build_command(arguments: list[str], more: Path | None = None) -> None:
    """Compose the config of a command, one cell of it if it is a sweep, from `more` config too, and build its phases. Errors: as the
    command's. Launchers are packages of their own."""
    if "--cfg" in arguments:
        arguments = arguments[: arguments.index("--cfg")]
    given = [word for word in cli.quote(arguments) if not word.startswith(("-", "hydra/launcher=", "hydra.launcher.", "hydra.mode="))]
    given = [re.sub(r"^([\w.]+)=(?:tag\(\w+,)?(?:interval|range)\(([^,()]+),.*", r"\1=\2", word) for word in given]
    overrides = [re.sub(r"^([\w.@/+~]+=[^,\[{(]*),.*", r"\1", word) for word in given]  # one of a sweep
    search = [f"hydra.searchpath=[file://{more}]"] if more and more.is_dir() else []
    config = resolve([*search, "hydra.mode=RUN", *overrides])
    if config["pipeline"]:
        check(config)
        assert Run(config).phases
