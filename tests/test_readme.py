"""The README keeps its word: its commands run or at least compose, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import ROOT, TINY, TINY_CDS, dsel
from document import Document, build_command
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from made_up_corpus import POOL_DOMAINS, TARGET_DOMAIN, documents, write_jsonl
from omegaconf import OmegaConf

from dsel import cli

PAGE = Document(ROOT / "README.md")
README = PAGE.text
SHRINK = [*TINY, *TINY_CDS, "budget.units=5"]
IN_THE_TREE = ("docs/", "conf/", "dsel/", "experiments/", "benchmarks/", "tests/")
TO_RUN = PAGE.dsel(marked=True)
TO_COMPOSE = [*TO_RUN, *PAGE.dsel(marked=False)]
ALL = [*PAGE.commands(True), *PAGE.commands(False)]


def test_there_are_commands() -> None:
    assert TO_RUN
    assert len(TO_COMPOSE) > len(TO_RUN)


@pytest.mark.parametrize("words", TO_RUN, ids=" ".join)
def test_marked_commands_run(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pool = [row for domain in (*POOL_DOMAINS, TARGET_DOMAIN) for row in documents(domain, 15)]
    mine = documents(TARGET_DOMAIN, 20, seed=1)
    for name, rows in (("pool", pool), ("mine", mine)):
        pq.write_table(pa.Table.from_pylist(rows), f"{name}.parquet")
        write_jsonl(Path(f"{name}.jsonl"), rows)
    answer = dsel(*words, *SHRINK, outputs=tmp_path / "outputs")
    assert (answer.code, answer.err) == (0, "")
    for output in (word.partition("=")[2] for word in words if word.startswith("output=")):
        assert (tmp_path / output).is_file()
        assert (tmp_path / output).with_suffix(".json").is_file()


@pytest.mark.parametrize("words", TO_COMPOSE, ids=" ".join)
def test_every_command_builds(words: list[str]) -> None:
    build_command(words)


def test_other_commands_are_known() -> None:
    for words in ALL:
        if words[:2] == ["python", "-m"]:
            assert (ROOT / Path(*words[2].split("."))).exists(), words
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file(), words
        else:
            assert words[0] in ("dsel", "make", "pip", "git", "cd", "source", "export"), words


def test_make_targets_exist() -> None:
    named = {words[1] for words in ALL if words[0] == "make"} | set(re.findall(r"`make ([\w-]+)`", README))
    assert named
    assert named <= set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_paths_exist() -> None:
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", README) if not link.startswith(("http", "#"))]
    named = [code for code in re.findall(r"`([^`\s]+)`", README) if code.startswith(IN_THE_TREE)]
    assert not [path for path in [*links, *named] if path and not (ROOT / path).exists()]


def test_inline_overrides_name_keys_that_exist() -> None:
    """`key=value` and `key=` in running text, such as `selector.keep=`."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        configs = [compose("config", overrides=["experiment=select", f"data={data}"]) for data in ("files", "localized")]
        configs.append(compose("config", overrides=["experiment=rank_tasks", "encoder=published"]))
        configs.append(compose("config", overrides=["experiment=attribute"]))
    groups = {path.name for path in cli.CONF.iterdir() if path.is_dir()}
    known = {*groups, "model.path", *(key for config in configs for key in cli._flatten(OmegaConf.to_container(config)))}
    said = {key for code in re.findall(r"`([^`]+)`", README) for key in re.findall(r"(?:^|\s)([a-z][\w.]*)=", code)}
    assert {key for key in said - known if not key.startswith("hydra.")} == set()


def test_it_is_short() -> None:
    assert len(README.splitlines()) < 200


@pytest.mark.parametrize("group", ["scorer", "selector", "online", "estimator", "task_scorer", "curvature"])
def test_it_names_every_method(group: str) -> None:
    assert {path.stem for path in (cli.CONF / group).glob("*.yaml")} <= set(re.findall(r"`(\w+)`", README))
