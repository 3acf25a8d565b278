"""Maps in folders of the user's, through whole runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from ranking_lab import RankingLab, ranking_config
from safetensors.torch import save_file
from torch import from_numpy

from dsel.artifact import Store
from dsel.base_encoder import BaseEncoder
from dsel.error import InputError
from dsel.functional.logme import logme
from dsel.functional.map_file import save
from dsel.functional.space_map import SpaceMap
from dsel.labelled import read_tasks
from dsel.phase.map_cache import MapCache, list_files
from dsel.pipeline import Run

BASE = BaseEncoder("place", "tiny", "mean", 12, "key")


def a_map(dim: int = 16, seed: int = 0) -> SpaceMap:
    rng = np.random.default_rng(seed)
    return SpaceMap((rng.normal(size=(dim, dim)).astype(np.float32),), rng.normal(size=dim).astype(np.float32))


def write(folder: Path, name: str, dim: int = 16, base: str = "tiny", seed: int = 0, **card: object) -> SpaceMap:
    found = a_map(dim, seed)
    save(folder / name, found, {"base_model_name": base, "task_id": name, **card})
    return found


def test_a_map_that_is_there_is_given(tmp_path: Path, ranking: RankingLab) -> None:
    source = ranking.bench.sources["animal"]
    written = write(tmp_path, "animal", rows=source.fingerprint)
    cache = MapCache.open(str(tmp_path), BASE, tmp_path / "hub")
    found = cache.get("animal", source, 16)
    assert found is not None
    np.testing.assert_array_equal(found.weight, written.weight)
    assert cache.get("colour", source, 16) is None


def test_maps_of_something_else(tmp_path: Path, ranking: RankingLab) -> None:
    source = ranking.bench.sources["animal"]
    write(tmp_path, "animal", rows="others")
    with pytest.raises(InputError, match="animal: the map was fitted to other rows than those of task animal now"):
        MapCache.open(str(tmp_path), BASE, tmp_path).get("animal", source, 16)
    with pytest.raises(InputError, match=r"\(16, 16\), embeddings of tiny have 8 dimensions"):
        MapCache.open(str(tmp_path), BASE, tmp_path).get("animal", None, 8)
    with pytest.raises(InputError, match="none of its 1 maps is of the base model large, but of tiny"):
        MapCache.open(str(tmp_path), replace(BASE, name="large"), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file; give a folder of maps"):
        MapCache.open(str(tmp_path / "file"), BASE, tmp_path)


def test_files_change_with_a_map(tmp_path: Path) -> None:
    write(tmp_path, "a")
    before = list_files(str(tmp_path))
    write(tmp_path, "a", seed=1)
    assert list_files(str(tmp_path)) != before
    assert list_files(["owner/name"]) == ["owner/name"]


def test_a_run_keeps_its_maps_and_ranks_by_them_alone(ranking: RankingLab, tmp_path: Path) -> None:
    """First with the sources' rows, then without: the same scores."""
    frames = []
    for more in ([], ["data.source=null"]):
        config = ranking_config(ranking, tmp_path, f"phases.rank.maps={tmp_path / 'maps'}", *more)
        state = Run(config).fold(Store(tmp_path / "artifacts"))
        frames.append(pl.read_parquet(state.artifacts["rank"] / "ranking.parquet"))
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == sorted(ranking.bench.sources)
    assert frames[0]["source"].to_list() == frames[1]["source"].to_list()
    np.testing.assert_allclose(frames[0]["score"], frames[1]["score"], atol=1e-9)
    assert frames[1]["source_rows"].to_list() == [0] * 4


def test_a_ranking_by_published_maps(ranking: RankingLab, tmp_path: Path) -> None:
    """Files as hf-dataset-selector writes them, and LogME of the mapped embeddings by hand."""
    maps = {}
    for seed, name in enumerate(("one", "two", "three")):
        maps[name] = a_map(seed=seed)
        folder = tmp_path / "maps" / name
        folder.mkdir(parents=True)
        save_file({"model.weight": from_numpy(maps[name].weight), "model.bias": from_numpy(maps[name].bias)}, folder / "model.safetensors")
        card = {
            "base_model_name": ranking.bench.base.name, "task_id": name, "esm_architecture": "linear", "esm_embedding_dim": 16,
            "version": "0.2.1", "task_subset": None, "text_column": "text", "label_column": "label",
        }  # fmt: skip
        (folder / "config.json").write_text(json.dumps(card))
    config = ranking_config(ranking, tmp_path, f"phases.rank.maps={tmp_path / 'maps'}", "data.source=null", "encoder.name=tiny")
    run, store = Run(config), Store(tmp_path / "artifacts")
    state = run.fold(store)
    frame = pl.read_parquet(state.artifacts["rank"] / "ranking.parquet")
    target = frame["target"][0]
    task = read_tasks({"target": run.world(store).corpus.target})["target"][target]
    base = ranking.bench.embed(task)
    expected = {name: logme(base @ m.weight.T + m.bias, task.labels, regression=task.is_regression) for name, m in maps.items()}
    own = frame.filter(pl.col("target") == target)
    assert own["source"].to_list() == sorted(expected, key=lambda name: -expected[name])
    np.testing.assert_allclose(own["score"], sorted(expected.values(), reverse=True), atol=1e-4)


def test_maps_alone_are_not_enough_for_other_scorers(ranking: RankingLab, tmp_path: Path) -> None:
    write(tmp_path / "maps", "a", base=ranking.bench.base.name)
    given = [f"phases.rank.maps={tmp_path / 'maps'}", "data.source=null", "encoder.name=tiny"]
    with pytest.raises(InputError, match="Logme looks at the sources' rows or models, and there are maps only"):
        Run(ranking_config(ranking, tmp_path, *given, "task_scorer=logme")).fold(Store(tmp_path / "artifacts"))
    with pytest.raises(InputError, match="there are neither sources nor maps"):
        Run(ranking_config(ranking, tmp_path, "data.source=null")).fold(Store(tmp_path / "artifacts"))
