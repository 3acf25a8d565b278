from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from hypothesis import given
from hypothesis import strategies as st

from dsel.error import InputError
from dsel.functional.map_file import load, save
from dsel.functional.map_folder import check_map, fetch_maps, find_maps, is_same_model, name_task
from dsel.functional.space_map import SpaceMap

BASE = "someone/model"


def put(folder: Path, task_id: str, base_model_name: str = BASE, **others: Any) -> Path:
    """A folder with a map of two dimensions."""
    save(
        folder,
        SpaceMap((np.eye(2, dtype=np.float32),), np.zeros(2, np.float32)),
        {"base_model_name": base_model_name, "task_id": task_id, **others},
    )
    return folder


def put_snapshot(folder: Path, name: str, commit: str, task_id: str) -> Path:
    """A map as the Hub's cache keeps it: links in a snapshot's folder to files elsewhere."""
    home = folder / f"models--someone--{name}"
    blobs, place = put(home / "blobs" / commit, task_id), home / "snapshots" / commit
    place.mkdir(parents=True)
    for file in blobs.iterdir():
        (place / file.name).symlink_to(file)
    return place


def refer(place: Path, commit: str) -> None:
    """`main` refers to a commit."""
    refs = place.parent.parent / "refs"
    refs.mkdir(exist_ok=True)
    (refs / "main").write_text(commit, encoding="utf-8")


def test_folders_and_snapshots_are_found(tmp_path: Path) -> None:
    expected = {
        "nyu-mll/glue:rte": put(tmp_path / "b", "nyu-mll/glue", task_subset="rte"),
        "nyu-mll/glue:cola": put(tmp_path / "a", "nyu-mll/glue", task_subset="cola"),
        "imdb": put_snapshot(tmp_path, "imdb", "abc", "imdb"),
        "größe": put(tmp_path / "größe", "größe", task_subset=None),
    }
    put(tmp_path / ".hidden", "hidden")
    (tmp_path / "models--someone--empty" / "refs").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    (tmp_path / "CACHEDIR.TAG").touch()
    other = tmp_path / "models--google-bert--bert" / "snapshots" / "1"
    other.mkdir(parents=True)
    (other / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    found = find_maps(tmp_path)
    assert found == expected
    assert list(found) == sorted(expected)
    for task, place in found.items():
        assert name_task(load(place)[1]) == task


def test_of_several_snapshots_the_one_of_main_is_taken(tmp_path: Path) -> None:
    old, new = (put_snapshot(tmp_path, "imdb", commit, "imdb") for commit in ("1", "2"))
    with pytest.raises(InputError, match="task imdb: has two maps"):
        find_maps(tmp_path)
    for place in (new, old):
        refer(old, f"{place.name}\n")
        assert find_maps(tmp_path) == {"imdb": place}


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_links_to_nowhere_are_missing_files(name: str, tmp_path: Path) -> None:
    place = put_snapshot(tmp_path, "imdb", "1", "imdb")
    (place / name).resolve().unlink()
    with pytest.raises(InputError, match=rf"snapshots/1/{name}: there is no such file"):
        find_maps(tmp_path)


def test_base_models_are_told_apart(tmp_path: Path) -> None:
    first, second = put(tmp_path / "1", "imdb"), put(tmp_path / "2", "imdb", "google-bert/bert-base-uncased")
    with pytest.raises(
        InputError, match=r"task imdb: has two maps, .*1 \(base model someone/model\) and .*2 \(base model google-bert/bert"
    ):
        find_maps(tmp_path)
    assert find_maps(tmp_path, BASE) == {"imdb": first}
    assert find_maps(tmp_path, "bert-base-uncased") == {"imdb": second}
    with pytest.raises(
        InputError, match=r"none of its 2 maps is of the base model gpt2, but of google-bert/bert-base-uncased, someone/model"
    ):
        find_maps(tmp_path, "gpt2")


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none: there is no such folder; give one that holds folders <map>/ or models--"):
        find_maps(tmp_path / "none")
    with pytest.raises(InputError, match=r"holds no map; expected folders <map>/ or models--.*model\.safetensors and config\.json"):
        find_maps(tmp_path)
    put(tmp_path / "good", "good")
    for name, content, message in [
        ("nameless", {"base_model_name": BASE, "task_id": ""}, r"nameless/config\.json: task_id=''; give its name"),
        ("baseless", {"task_id": "t"}, r"baseless/config\.json: base_model_name=None; give its name"),
    ]:
        place = put(tmp_path / name, "t")
        (place / "config.json").write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(InputError, match=message):
            find_maps(tmp_path)
        (place / "config.json").unlink()
        with pytest.raises(InputError, match=rf"{name}/config\.json: there is no such file"):
            find_maps(tmp_path)
        shutil.rmtree(place)
    (put(tmp_path / "half", "half") / "model.safetensors").rename(tmp_path / "half" / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"half/model\.safetensors: there is no such file; pytorch_model\.bin is a pickle"):
        find_maps(tmp_path)


@given(st.sampled_from(["google-bert", "FacebookAI", "openai-community"]), st.text("ab-", min_size=1), st.text("ab-", min_size=1))
def test_names_without_an_owner_are_those_of_the_first_owners(owner: str, name: str, other: str) -> None:
    assert is_same_model(name, name)
    assert is_same_model(f"{owner}/{name}", name)
    assert is_same_model(name, f"{owner}/{name}")
    assert not is_same_model(f"someone/{name}", name)
    assert is_same_model(f"{owner}/{name}", other) == (name == other)


def test_a_map_must_fit_the_model() -> None:
    square = SpaceMap((np.eye(2, dtype=np.float32),), np.zeros(2, np.float32))
    check_map(square, {"base_model_name": "gpt2"}, "openai-community/gpt2", 2, "here")
    with pytest.raises(InputError, match=r"here: base_model_name=a/b, embeddings are of a/c"):
        check_map(square, {"base_model_name": "a/b"}, "a/c", 2, "here")
    with pytest.raises(InputError, match=r"here: a map \(2, 2\), embeddings of a/b have 3 dimensions"):
        check_map(square, {"base_model_name": "a/b"}, "a/b", 3, Path("here"))
    bottleneck = SpaceMap((np.ones((1, 3), np.float32), np.ones((2, 1), np.float32)), np.zeros(2, np.float32))
    with pytest.raises(InputError, match=r"here: a map \(2, 3\)"):
        check_map(bottleneck, {"base_model_name": "a/b"}, "a/b", 3, "here")


def test_maps_are_fetched_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repo_id: str, *, cache_dir: Path, allow_patterns: list[str]) -> str:
        asked.append((repo_id, sorted(allow_patterns)))
        place = put_snapshot(cache_dir, repo_id.split("/")[1], "abc", repo_id)
        refer(place, "abc")
        return str(place)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    found = fetch_maps(["someone/b", "someone/a"], tmp_path / "new")
    assert asked == [(name, ["config.json", "model.safetensors"]) for name in ("someone/b", "someone/a")]
    assert list(found) == ["someone/b", "someone/a"]
    assert find_maps(tmp_path / "new") == found  # their tasks have the repositories' names


@pytest.mark.parametrize(
    "error",
    [
        LocalEntryNotFoundError("no way\nto it"),
        HFValidationError("no way"),
        PermissionError("no way"),
        RuntimeError("no way"),
    ],
)
def test_what_goes_wrong_on_the_way_is_one_line(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(InputError, match=r"^someone/a: .*\(no way\); check its name and the network, or give a folder that holds it$"):
        fetch_maps(["someone/a"], tmp_path)


def test_repositories_without_a_map_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = put(tmp_path / "a", "t")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(place))
    (place / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(InputError, match=r"^someone/a: is no map \(.*base_model_name=None"):
        fetch_maps(["someone/a"], tmp_path)
    (place / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"^someone/a: is no map \(.*model\.safetensors: there is no such file"):
        fetch_maps(["someone/a"], tmp_path)


def test_without_a_network_the_cache_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    place = put_snapshot(tmp_path, "b", "abc", "imdb")
    refer(place, "abc")
    assert fetch_maps(["someone/b"], tmp_path) == {"someone/b": place}
    with pytest.raises(InputError, match=r"^someone/a: the map cannot be fetched \(.+\); check its name and the network"):
        fetch_maps(["someone/a"], tmp_path)
