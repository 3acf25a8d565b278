"""The pages of options say all that conf/ and the constructors hold."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_object
from options import CONF, GROUPS, describe_component, describe_group, read_option

PATHS = [path for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_field_has_a_value_and_the_page_shows_it(path: Path) -> None:
    option = read_option(path)
    assert set(option.values) == {field.name for field in fields(get_object(option.target))}
    told = describe_component(path.parent.name, [option.name])
    assert all(f"{key}` |" in told for key in option.values)


@pytest.mark.parametrize("group", GROUPS)
def test_a_page_names_every_option_of_its_group(group: str) -> None:
    page = describe_group(group)
    for path in (CONF / group).glob("*.yaml"):
        assert f"`{path.stem}`" in page
        assert f"`{yaml.safe_load(path.read_text(encoding='utf-8'))['_target_']}`" in page


def test_values_and_comments_are_those_of_the_yaml() -> None:
    told = describe_component("scorer", ["dsir"])
    assert "| `scorer.smoothing` | a number | `1.0e-4` | the released code: 1e-8 |" in told
    assert "[arXiv 2302.03169](https://arxiv.org/abs/2302.03169)" in told


def test_a_component_inside_of_another_is_named() -> None:
    assert "| `estimator.estimator` | a component | `estimator=gradex` |" in describe_component("estimator", ["calibrated"])
    assert "`scorer=cds, scorer=domain_classifier`" in describe_component("scorer", ["combination"])


def test_variants_of_one_class_stand_side_by_side() -> None:
    told = describe_component("curvature", ["ekfac", "kfac"])
    assert "| `curvature.is_corrected` | true or false | `true` | `false` | false: K-FAC |" in told
