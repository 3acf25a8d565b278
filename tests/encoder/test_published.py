"""Encoders in folders: what they are known by, and what is wrong with them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from laboratory import Lab
from ranking_lab import save_encoder

from dsel.encoder.published import Published
from dsel.error import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_encoder(tmp_path / "bert")


def test_a_folder(folder: Path, lab: Lab) -> None:
    base = Published(str(folder), context=20).prepare(lab.world)
    assert (base.place, base.name, base.pooling, base.context, base.revision) == (str(folder), str(folder), "pooler", 20, None)
    assert Published(str(folder), name="mine", context=20).prepare(lab.world) == replace(base, name="mine")


def test_a_folder_of_the_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert Published(f"~/{folder.name}").identity() == Published(str(folder)).identity()


def test_identity_is_that_of_the_bytes(folder: Path, lab: Lab, tmp_path: Path) -> None:
    given = Published(str(folder), context=20)
    identity, key = given.identity(), given.prepare(lab.world).key
    assert {name for name, _ in identity} >= {"config.json", "model.safetensors", "tokenizer.json"}
    shutil.copytree(folder, tmp_path / "copy")
    assert Published(str(tmp_path / "copy")).identity() == identity
    weights = folder / "model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-4] + bytes(4))
    assert given.identity() != identity
    assert given.prepare(lab.world).key != key
    weights.write_bytes(before)
    assert given.identity() == identity
    assert given.prepare(lab.world).key == key
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + "\n")
    assert given.identity() != identity


def test_other_files_do_not_matter(folder: Path) -> None:
    given = Published(str(folder))
    before = given.identity()
    (folder / "README.md").write_text("a card")
    assert given.identity() == before


@pytest.mark.parametrize("changes", [{"pooling": "mean"}, {"context": 10}])
def test_a_key_hangs_on_what_is_computed(folder: Path, lab: Lab, changes: dict[str, object]) -> None:
    given = Published(str(folder), context=20)
    assert replace(given, **changes).prepare(lab.world).key != given.prepare(lab.world).key
    assert replace(given, learning_rate=1.0).prepare(lab.world).key == given.prepare(lab.world).key


def test_a_name_on_the_hub_has_no_files() -> None:
    assert Published("someone/some-model").identity() is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": 41}, r"encoder\.context=41: .* does not read so many tokens \(40 places\); set it lower"),
        ({"pooling": "max"}, r"encoder\.pooling=max: must be one of cls, mean, pooler"),
    ],
)
def test_mistakes(folder: Path, lab: Lab, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        replace(Published(str(folder), context=20), **changes).prepare(lab.world)
    assert "\n" not in str(raised.value)
