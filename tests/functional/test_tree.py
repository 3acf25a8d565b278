"""A tree of tensors and plain values comes back as it was."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from dsel.functional.tree import join, split

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4)
trees = st.recursive(
    plain | st.frozensets(st.text(max_size=3), max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.integers() | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def there_and_back(tree: Any) -> Any:
    found, tensors = split(tree)
    return join(json.loads(json.dumps(found)), tensors)


@given(trees)
def test_plain_values_keep_their_kinds(tree: Any) -> None:
    assert repr(there_and_back(tree)) == repr(tree) or there_and_back(tree) == tree
    assert type(there_and_back(tree)) is type(tree)


def test_numbers_that_are_none_and_tensors_of_all_kinds(tmp_path: Path) -> None:
    """Through a file: scalars, empty ones, bytes, bfloat16, views, and one that stands in the tree twice."""
    base, shared = torch.arange(12.0).reshape(3, 4), torch.ones(2)
    tree = {
        "nan": math.nan, 7: [torch.tensor(3.0), torch.empty(0, 2), torch.tensor([1, 255], dtype=torch.uint8)],
        "views": (base[:, 1], base.T, base[1:]), "half": torch.tensor([1.5], dtype=torch.bfloat16), "shared": [shared, shared],
        "parameter": torch.nn.Parameter(torch.ones(1)),
    }  # fmt: skip
    found, tensors = split(tree)
    save_file(tensors, tmp_path / "a.safetensors")
    assert len(tensors) == 9
    back = join(json.loads(json.dumps(found)), load_file(tmp_path / "a.safetensors"))
    assert math.isnan(back["nan"])
    assert back["shared"][0] is back["shared"][1]
    for one, other in zip(
        [*tree[7], *tree["views"], tree["half"], tree["parameter"]],
        [*back[7], *back["views"], back["half"], back["parameter"]],
        strict=True,
    ):  # type: ignore[misc]
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert torch.equal(one, other)


@pytest.mark.parametrize("tree", [object(), {"a": [b"bytes"]}, {1.5: 1}, {True: 1}])
def test_other_things_are_refused(tree: Any) -> None:
    with pytest.raises(TypeError, match=r"neither JSON nor a tensor|a key must be"):
        split(tree)
