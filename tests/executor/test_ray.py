"""executor=ray: the same as executor=local, whatever happens to workers. Runs where Ray is installed: pip install 'dsel[ray]'."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from command import TINY, TINY_CDS, dsel
from made_up_corpus import POOL_DOMAINS, TARGET_DOMAIN, RandomState, documents, write_jsonl
from work import Work

from dsel.error import InputError
from dsel.executor.ray import Ray

HERE = Path(__file__).parent
RAY = ["executor=ray", "executor.num_workers=2"]

ray: Any = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")  # Ray Data warns of its own options


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home folder of our own; one cluster, started by the first test that needs it, whose workers find `work`."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")]))
        yield folder
        ray.shutdown()


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsel.progress.QUIET_SECONDS", 1e9)  # stderr is compared, and a busy machine is slow to start a cluster


def items_of(tables: list[pa.Table]) -> list[int]:
    return [table["item"][0].as_py() for table in tables]


def test_results_in_order_up_to_the_first_error_and_no_traces(tmp_path: Path, home: Path) -> None:
    executor, found = Ray(num_workers=2, artifacts=str(tmp_path / "artifacts")), list[pa.Table]()
    before, handler, variables = RandomState.now(), signal.getsignal(signal.SIGTERM), dict(os.environ)
    with pytest.raises(InputError) as failed:
        found.extend(executor.map(Work(tmp_path, bad=200), range(300), [1] * 300, "score", "pieces"))
    assert str(failed.value) == "piece 200: broken; mend it"
    assert items_of(found) == list(range(200))
    assert {table["threads"][0].as_py() for table in found} == {"1"}
    assert RandomState.now() == before
    assert signal.getsignal(signal.SIGTERM) is handler
    assert dict(os.environ) == variables
    assert not list((tmp_path / "artifacts").iterdir())
    assert not list(home.iterdir())  # no token


@pytest.mark.slow
def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    found = list(Ray(num_workers=2).map(Work(tmp_path, kill=3), range(8), [1] * 8, "score", "pieces"))
    assert (tmp_path / "killed").exists()
    assert items_of(found) == list(range(8))


def test_what_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 4.0}}, {"Alive": True, "Resources": {"CPU": 7.0, "GPU": 2.0}}]
    monkeypatch.setattr(ray, "nodes", lambda: [*nodes, {"Alive": False, "Resources": {"CPU": 99.0}}])
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 11.0, "GPU": 2.0})
    assert Ray()._places(0) == 11
    assert Ray(cpus_per_worker=2)._places(0) == 5
    assert Ray()._places(Ray()._gpus(holds_tensors=True)) == 2
    assert Ray()._places(Ray(gpus_per_worker=0.25)._gpus(holds_tensors=True)) == 7
    assert Ray(gpus_per_worker=1)._gpus(holds_tensors=False) == 0
    with pytest.raises(InputError, match=r"cpus_per_worker=8, .* the largest of 2 has 7 CPUs and 2 GPUs"):
        Ray(num_workers=2, cpus_per_worker=8)._places(0)
    assert Ray("auto", num_workers=2, cpus_per_worker=8)._places(0) == 2  # it may grow


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_workers": 0}, "executor.num_workers=0: must be at least 1"),
        ({"cpus_per_worker": 0}, "executor.cpus_per_worker=0: must be at least 1"),
        ({"gpus_per_worker": -1.0}, "executor.gpus_per_worker=-1.0: must be 0 or more"),
        ({"address": "ray://head:10001"}, "executor.address=ray://head:10001: Ray Data does not work through the Ray Client"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Ray(**options)


def test_no_cluster_at_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(InputError, match=r"executor.address=localhost:1: no Ray cluster that dsel can join .*refused"):
        next(Ray(address="localhost:1").map(abs, [1], [1], "score", "pieces"))


def test_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsel.executor.ray.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'dsel\[ray\]', or take executor=local"):
        Ray()


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A pool of several files, and a target."""
    rows = [row for domain in (*POOL_DOMAINS, TARGET_DOMAIN) for row in documents(domain, 15, seed=1)]
    (tmp_path / "pool").mkdir()
    for number in range(5):
        write_jsonl(tmp_path / "pool" / f"{number}.jsonl", rows[number::5])
    write_jsonl(tmp_path / "mine.jsonl", documents(TARGET_DOMAIN, 20))
    return tmp_path


def select(folder: Path, name: str, *more: str) -> Any:
    """`dsel experiment=select` into NAME.parquet, with artifacts of its own."""
    files = [f"source={folder / 'pool'}", f"target={folder / 'mine.jsonl'}", f"output={folder / name}.parquet", "budget.units=12"]
    return dsel("experiment=select", *files, *more, outputs=folder / name)


def pieces(folder: Path) -> dict[str, bytes]:
    """The scores of every piece, by the artifact's name."""
    return {path.parent.name: path.read_bytes() for path in folder.glob("artifacts/piece-*/scores.arrow")}


@pytest.mark.slow
@pytest.mark.parametrize("scorer", ["dsir", "domain_classifier", "cds"])
def test_a_selection_is_the_same_bit_for_bit(shards: Path, scorer: str) -> None:
    more = [f"scorer={scorer}", *([*TINY, *TINY_CDS] if scorer == "cds" else [])]
    for name, executor in (("local", ["executor.num_workers=1"]), ("ray", RAY)):
        answer = select(shards, name, *executor, *more)
        assert (answer.code, answer.err) == (0, "")
    assert len(pieces(shards / "ray")) == 5
    assert pieces(shards / "ray") == pieces(shards / "local")
    assert (shards / "ray.parquet").read_bytes() == (shards / "local.parquet").read_bytes()


@pytest.mark.slow
def test_an_error_in_a_piece_is_the_same_line(shards: Path) -> None:
    with (shards / "pool" / "3.jsonl").open("a") as file:
        file.write('{"text": "a zebra"}\n')
    scorer = ["scorer=random", "scorer._target_=work.NotFinite", "+scorer.word=zebra", "allow=[work.]"]
    lines = {select(shards, name, *scorer, *more).error for name, more in (("local", []), ("ray", RAY))}
    assert len(lines) == 1
    assert "3.jsonl: 1 scores are not finite; first: row 12 from 0" in lines.pop()


@pytest.mark.slow
def test_finished_pieces_are_not_computed_again(shards: Path) -> None:
    assert select(shards, "ray", "scorer=dsir", *RAY).code == 0
    first, output = pieces(shards / "ray"), (shards / "ray.parquet").read_bytes()
    done = {path: path.stat().st_mtime_ns for path in shards.glob("ray/artifacts/piece-*/done.json")}
    lost, *kept = sorted(done)
    for path in [lost, *shards.glob("ray/artifacts/s*-*/done.json")]:  # of a piece, score and select
        path.unlink()
    assert select(shards, "ray", "scorer=dsir", "overwrite=true", *RAY).code == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == {path: done[path] for path in kept}
    assert lost.stat().st_mtime_ns > done[lost]
    assert pieces(shards / "ray") == first
    assert (shards / "ray.parquet").read_bytes() == output
    assert json.loads((shards / "ray.json").read_text())["chosen"] == 12
