"""conf/ mirrors dsel/: the yaml of a component is its constructor's menu."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, Field, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from dsel import cli
from dsel.build import check
from dsel.protocol import Curvature, Data, EncoderSource, Executor, Model, Phase, Scorer, Selector, SubsetEstimator, TaskScorer

PROTOCOLS = {
    "data": Data, "model": Model, "scorer": Scorer, "selector": Selector, "estimator": SubsetEstimator, "executor": Executor,
    "phase": Phase, "encoder": EncoderSource, "task_scorer": TaskScorer, "curvature": Curvature,
}  # fmt: skip
THIRD_PARTY = ("trainer", "optimizer", "logger")
EXPERIMENTS = sorted(path.stem for path in (cli.CONF / "experiment").glob("*.yaml"))
COMPONENTS = [path for group in PROTOCOLS for path in sorted((cli.CONF / group).glob("*.yaml"))]
USUAL = {"tiny"}  # beside the yaml named as its module: the constructor's own values; all other names are those of variations
COMMAND_LINE = {
    "attribute": ["checkpoint='outputs/runs/demo/seed=0'", "query=mine.jsonl"],
    "influence_provenance": ["source=pool.parquet", "target=facts.parquet"],
    "rank_tasks": ["sources=tasks/", "target=mine.jsonl"],
    "select": ["source=pool.jsonl", "target=mine.jsonl", "output=best.jsonl"],
    "loss_masking_files": ["source=pool.parquet", "target=clean.parquet"],
}


def read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


def compose_experiment(name: str) -> DictConfig:
    cli.register_resolvers()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        overrides = [f"experiment={name}", "hydra.mode=RUN", *COMMAND_LINE.get(name, [])]
        return compose("config", overrides=overrides, return_hydra_config=True)


def default(field: Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("path", COMPONENTS, ids=name_of)
def test_a_component_yaml_is_its_constructor(path: Path) -> None:
    group, node = path.parent.name, read(path)
    target = node.pop("_target_")
    assert target.startswith(f"dsel.{group}.")
    made = get_object(target)
    assert is_dataclass(made)
    entries = [entry if isinstance(entry, str) else next(iter(entry)) for entry in node.pop("defaults", [])]
    placed = {entry.split("@")[1].split(".")[0] for entry in entries if "@" in entry}
    assert set(node) | placed == {field.name for field in fields(made)}
    if path.stem not in USUAL and not target.startswith(f"dsel.{group}.{path.stem}."):
        return
    for field in fields(made):
        value = node.get(field.name)
        if isinstance(value, dict) or (isinstance(value, str) and value.startswith(("${", "???"))) or field.name in placed:
            continue  # another component, a value from the top of the config, or one that has to be given
        assert value == (list(own) if isinstance(own := default(field), tuple) else own), field.name


@pytest.mark.parametrize("path", sorted((cli.CONF / "hydra").glob("*/*.yaml")), ids=name_of)
def test_a_sweeper_or_launcher_yaml_is_its_constructor(path: Path) -> None:
    node = read(path)
    target = node.pop("_target_")
    assert target.startswith("hydra_plugins.dsel.")
    parameters = inspect.signature(get_object(target)).parameters
    assert {name: list(value.default) if value.default == () else value.default for name, value in parameters.items()} == node


@pytest.mark.parametrize("group", PROTOCOLS)
def test_every_component_is_named_by_a_yaml(group: str) -> None:
    named = {read(path)["_target_"] for path in (cli.CONF / group).glob("*.yaml")}
    protocol = PROTOCOLS[group]
    methods = [name for name, value in vars(protocol).items() if inspect.isfunction(value) and not name.startswith("_")]
    found = set()
    for path in (cli.PACKAGE / group).glob("*.py"):
        module = import_module(f"dsel.{group}.{path.stem}".removesuffix(".__init__"))
        for name, value in inspect.getmembers(module, inspect.isclass):
            if value.__module__ == module.__name__ and not name.startswith("_") and all(hasattr(value, method) for method in methods):
                found.add(f"{value.__module__}.{name}")
    assert found
    assert found == named


@pytest.mark.parametrize("path", [p for g in THIRD_PARTY for p in sorted((cli.CONF / g).glob("*.yaml"))], ids=name_of)
def test_trainers_optimizers_and_loggers_are_third_party(path: Path) -> None:
    node = read(path)
    target = node.pop("_target_", None)
    if target is None:
        assert path.stem == "none"
        return
    assert target.startswith(("pytorch_lightning.", "torch.optim."))
    known = inspect.signature(get_object(target)).parameters
    accepts_more = any(p.kind is p.VAR_KEYWORD for p in known.values())
    assert accepts_more or set(node) - {"_partial_"} <= set(known)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_composes_and_resolves(name: str) -> None:
    config = compose_experiment(name)
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)
    try:
        OmegaConf.set_struct(config, False)
        del config["hydra"]
        resolved: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    finally:
        HydraConfig.instance().cfg = before
    check(resolved)  # every argument of every component is known and of its type
    assert resolved["name"] == name
    assert set(resolved["pipeline"]) <= set(resolved["phases"])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_says_what_it_is_and_how_it_is_run(name: str) -> None:
    lines = (cli.CONF / "experiment" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    header = [line[1:].strip() for line in lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]]
    said, commands = [h for h in header if h[0] not in "@$"], [h[1:].strip() for h in header if h.startswith("$")]
    assert said
    assert commands
    assert commands[0].startswith(f"dsel experiment={name}")


def test_sweeps_name_keys_and_options_that_exist() -> None:
    for name in EXPERIMENTS:
        node = read(cli.CONF / "experiment" / f"{name}.yaml")
        config, sweep = compose_experiment(name), node.get("hydra", {}).get("sweeper", {}).get("params", {})
        for key, values in sweep.items():
            if (cli.CONF / key).is_dir():
                assert {f"{value}.yaml" for value in re.split(r",\s*", values)} <= {p.name for p in (cli.CONF / key).iterdir()}
            else:
                assert OmegaConf.select(config, key, throw_on_missing=False, default=...) is not ..., f"{name}: {key}"
