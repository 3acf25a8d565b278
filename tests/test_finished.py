"""Going on from a run that has ended: what is taken from it, what is refused, and the page that comes of it."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from command import dsel
from made_up_corpus import documents, resolve, tiny_config, write_files, write_jsonl

from dsel.artifact import DONE, Store
from dsel.cli import quote
from dsel.data.of_run import OfRun
from dsel.error import InputError
from dsel.finished import Finished
from dsel.pipeline import Run
from dsel.pool import TOKENS
from dsel.run import run_cell
from dsel.training.checkpoint import load_model

SMALL = ["arm=attribute_random", "steps.total=8", "steps.finetune=3", "phases.pretrain.snapshots=1", "split.planted=10"]


@dataclass(frozen=True)
class Ended:
    """A run that has pretrained and fine-tuned a little, in a folder whose name holds equals signs."""

    config: dict[str, Any]
    folder: Path
    query: Path

    @property
    def outputs(self) -> Path:
        """Where artifacts stand."""
        return Path(self.config["paths"]["outputs"])

    def attribute(self, *overrides: str, query: Path | None = None) -> list[str]:
        """The command that goes on from it."""
        given = ["experiment=attribute", f"checkpoint={self.folder}", f"query={query or self.query}", "top=2", "num_queries=2"]
        small = ["phases.pretraining.num_explained=1", "phases.finetuning.num_explained=1", "curvature=identity", "trainer=debug"]
        return [*given, *small, *overrides]


@pytest.fixture(scope="module", autouse=True)
def _cut() -> Iterator[None]:
    """The work of scoring is cut, as that of a large pool is: a single part would take all cores for itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dsel.phase.attribute.SHARD_SIZE", 5)
        yield


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Trained once for all tests here."""
    home = tmp_path_factory.mktemp("ended")
    config = tiny_config(*write_files(home, 20, 60), home / "out", *SMALL, experiment="influence_lds")
    config["pipeline"] = ["pretrain", "finetune"]
    folder = home / "out" / "runs" / "arm=none,steps.total=8" / "seed=0"
    assert run_cell(config, folder, {}) is None
    rows = [{"id": f"<mine & {number}>", "text": row["text"]} for number, row in enumerate(documents("stars", 2, seed=7))]
    return Ended(config, folder, write_jsonl(home / "mine.jsonl", rows))


def going_on(ended: Ended, *overrides: str) -> Run:
    """The run that goes on from it."""
    return Run(resolve([*quote(ended.attribute(f"paths.outputs={ended.outputs}")), *overrides]))


def made_up(home: Path, **artifacts: str) -> Path:
    """A run's folder, and of each phase an artifact with what it holds."""
    folder = home / "run"
    folder.mkdir()
    for name, holds in artifacts.items():
        (home / "artifacts" / name / holds).mkdir(parents=True)
        (home / "artifacts" / name / DONE).write_text("{}")
    record = {"fingerprint": "abc", "config": {"model": None}, "artifacts": {name: f"../artifacts/{name}" for name in artifacts}}
    (folder / "result.json").write_text(json.dumps(record))
    return folder


def error_of(folder: Path, ask: str) -> str:
    """The one line that is said when that is asked of the run."""
    finished = Finished(folder, "checkpoint")
    with pytest.raises(InputError) as caught:
        finished.place(ask) if ask in ("corpus", "tokenizer") else getattr(finished, ask)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_everything_is_taken_as_it_was(ended: Ended) -> None:
    store = Store(Path(ended.config["paths"]["artifacts"]))
    first, second = Run(ended.config), going_on(ended)
    before, after = first.world(store), second.world(store)
    assert second.finished is not None
    assert first.finished is None
    assert after.corpus.fingerprint == before.corpus.fingerprint
    for name, pool in before.corpus.pools().items():
        assert after.corpus.pools()[name].table.equals(pool.table)
    assert after.corpus.excluded.tolist() == before.corpus.excluded.tolist()
    assert after.model == before.model
    assert after.objective == before.objective
    assert before.tokenizer is not None
    assert after.tokenizer is not None
    assert after.tokenizer.get_vocab() == before.tokenizer.get_vocab()
    tokens = [world.tokenized(world.corpus.test).table[TOKENS].to_pylist() for world in (before, after)]
    assert tokens[0] == tokens[1]
    trained, found = first.fold(store), second._first_state(store)
    assert list(found.checkpoints) == ["pretrain", "finetune"]
    assert {name: path.resolve() for name, path in trained.artifacts.items()} == found.artifacts
    for name, folder in found.checkpoints.items():
        weights, same = (load_model(path).state_dict() for path in (trained.checkpoints[name], folder))
        assert all(torch.equal(weights[key], same[key]) for key in weights)


def test_the_keys_hang_on_the_run_and_on_the_queries(ended: Ended, tmp_path: Path) -> None:
    before = going_on(ended).keys
    assert going_on(ended).keys == before
    other = write_jsonl(tmp_path / "other.jsonl", documents("stars", 1))
    asked = going_on(ended, f"query={other}").keys
    assert [name for name in before if asked[name] != before[name]] == ["pretraining", "finetuning"]
    copied = tmp_path / "seed=0"
    copied.mkdir()
    record = json.loads((ended.folder / "result.json").read_text())
    identities = []
    for fingerprint in (record["fingerprint"], "another"):
        (copied / "result.json").write_text(json.dumps(record | {"fingerprint": fingerprint}))
        identities.append(OfRun(str(copied)).identity())
    assert identities == [OfRun(str(ended.folder)).identity(), "another"]
    with pytest.raises(InputError, match=r"^checkpoint=.*: the data of a run are taken as they are"):
        OfRun(str(copied)).read()


def test_there_is_no_such_folder(tmp_path: Path) -> None:
    folder = tmp_path / "nowhere"
    told = "give the folder that a run's last line names (result: ...)"
    assert error_of(folder, "config") == f"checkpoint={folder}: no such folder; {told}"
    folder.mkdir()
    assert error_of(folder, "artifacts") == f"checkpoint={folder}: holds no result.json; {told}"


def test_a_sweep_s_folder_names_the_runs_in_it(tmp_path: Path) -> None:
    runs = [tmp_path / f"arm={arm}" / f"seed={seed}" for arm in ("cds", "none") for seed in (0, 1)]
    for run in runs:
        run.mkdir(parents=True)
        (run / "result.json").write_text("{}")
    assert error_of(tmp_path, "config") == f"checkpoint={tmp_path}: holds no result.json; runs in it are {', '.join(map(str, runs[:3]))}"


@pytest.mark.parametrize("text", ["{", "[]", "null", "3", '{"fingerprint": "a", "config": {}}', "\udcff"], ids=range(6))
def test_a_file_that_is_no_result(tmp_path: Path, text: str) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert error_of(tmp_path, "checkpoints").startswith(f"{path}: not a result of dsel (")


def test_an_artifact_that_is_gone(tmp_path: Path) -> None:
    folder = made_up(tmp_path, corpus="", tokenizer="", pretrain="model", finetune="model")
    assert list(Finished(folder, "checkpoint").checkpoints) == ["pretrain", "finetune"]
    shutil.rmtree(tmp_path / "artifacts" / "pretrain")
    for asked in ("corpus", "checkpoints"):
        said = error_of(folder, asked)
        assert said.startswith(f"checkpoint={folder}: its artifact pretrain is gone ({tmp_path / 'artifacts' / 'pretrain'}); run that")


def test_a_run_that_trained_nothing(tmp_path: Path) -> None:
    folder = made_up(tmp_path, corpus="", tokenizer="", score="scores")
    assert error_of(folder, "checkpoints") == (
        f"checkpoint={folder}: the run trained no model (corpus, tokenizer, score); give one that did"
    )


@pytest.mark.parametrize("name", ["corpus", "tokenizer"])
def test_what_was_not_written_down(tmp_path: Path, name: str) -> None:
    """Runs of earlier versions, and those without a model."""
    kept = {"corpus", "tokenizer", "pretrain"} - {name}
    folder = made_up(tmp_path, **dict.fromkeys(sorted(kept), "model"))
    assert error_of(folder, name).startswith(f"checkpoint={folder}: the run did not write down where its {name} is; run it again")


def test_a_selection_without_a_model_is_no_run_to_go_on_from(tmp_path: Path) -> None:
    files = write_files(tmp_path, 10, 30)
    chosen = ["scorer=random", "budget.units=3", f"output={tmp_path / 'best.jsonl'}"]
    folder = tmp_path / "run"
    run_cell(tiny_config(*files, tmp_path / "out", *chosen, experiment="select"), folder, {})
    said = dsel("experiment=attribute", f"checkpoint={folder}", f"query={files[1]}", outputs=tmp_path).error
    assert said.startswith(f"checkpoint={folder}: the run did not write down where its tokenizer is; run it again with this dsel, and with")


def test_mistakes_on_the_command_line_are_one_line(ended: Ended, tmp_path: Path) -> None:
    assert dsel("experiment=attribute", outputs=tmp_path).error.startswith("checkpoint: is needed and not given")
    gone = tmp_path / "arm=x" / "seed=0"
    said = dsel("experiment=attribute", f"checkpoint={gone}", f"query={ended.query}", outputs=tmp_path).error
    assert said.startswith(f"checkpoint={gone}: no such folder")
    said = dsel(*ended.attribute(query=tmp_path / "a=b.jsonl"), outputs=tmp_path).error
    assert said.startswith(f"query={tmp_path / 'a=b.jsonl'}: no such file or folder")
    said = dsel(*ended.attribute("scorer.finetuned=continue"), outputs=ended.outputs).error
    assert "trained so far: pretrain, finetune" in said


@pytest.fixture(scope="module")
def page(ended: Ended) -> Path:
    """The folder of an attribution, from the command line."""
    answer = dsel(*ended.attribute(), outputs=ended.outputs)
    assert answer.code == 0, answer.err
    (result,) = (ended.outputs / "runs" / "attribute").rglob("result.json")
    assert f"report: {result.parent / 'report.html'}" in answer.out
    assert "query <mine & 0>: The " in answer.out
    return result.parent


def test_an_attribution_ends_with_a_page_that_names_all(page: Path, ended: Ended) -> None:
    record = json.loads((page / "result.json").read_text())
    assert list(record["artifacts"]) == ["corpus", "tokenizer", "pretrain", "finetune", "pretraining", "finetuning"]
    table, text = pl.read_parquet(page / "attributions.parquet"), (page / "report.html").read_text(encoding="utf-8")
    assert table.group_by("query_id", "side", "sign").len().sort("query_id", "side", "sign").rows() == [
        (f"<mine & {query}>", side, sign, 2)
        for query in range(2)
        for side in ("finetuning", "pretraining")
        for sign in ("harmful", "helpful")
    ]
    asked = [json.loads(line) for line in ended.query.read_text().splitlines()]
    assert table.select("query_id", "query_text").unique().sort("query_id").rows() == [(row["id"], row["text"]) for row in asked]
    for row in asked:
        assert f"<h2>{html.escape(row['id'])}</h2>" in text
    for row in table.to_dicts():
        assert f"<span>row {row['dsel_row']}, {row['id']}</span>" in text
        assert row["id"].partition("-")[0] == row["domain"]
        assert (row["domain"] == "stars") >= (row["side"] == "finetuning")
        if row["tokens"] is None:
            assert html.escape(row["text"]) in text
    for phase in ("pretrain", "finetune"):
        assert f"{phase} " in text
    assert "MultiStageInfluence" in text


def test_an_attribution_is_found_again(page: Path, ended: Ended) -> None:
    before = (page / "result.json").read_bytes()
    answer = dsel(*ended.attribute(), outputs=ended.outputs)
    assert (answer.code, answer.err) == (0, "")
    assert "nothing to do" in answer.out
    assert (page / "result.json").read_bytes() == before


def test_an_attribution_may_be_gone_on_from(page: Path, ended: Ended, tmp_path: Path) -> None:
    """It stands on the same models; or it is said to be the wrong run."""
    rows = [{"id": "second", "text": row["text"]} for row in documents("stars", 1, seed=9)]
    other = Ended(ended.config, page, write_jsonl(tmp_path / "second.jsonl", rows))
    answer = dsel(*other.attribute(), outputs=tmp_path)
    if answer.code:
        assert answer.error.startswith(f"checkpoint={page}: ")
        return
    (table,) = tmp_path.rglob("attributions.parquet")
    assert pl.read_parquet(table)["query_id"].unique().to_list() == ["second"]


@pytest.mark.parametrize("phase", ["attribute", "quality"])
def test_the_page_is_not_that_of_the_run_before(ended: Ended, tmp_path: Path, phase: str) -> None:
    """Which may have attributed as well, about other queries, or selected."""
    folder, record = tmp_path / "arm=x", json.loads((ended.folder / "result.json").read_text())
    if phase == "attribute":
        dot = {"_target_": "dsel.scorer.gradient_similarity.GradientSimilarity", "each": True}
        phases = {**ended.config["phases"], phase: {**ended.config["phases"][phase], "scorer": dot, "num_queries": 1}}
        run_cell({**ended.config, "phases": phases, "pipeline": ["pretrain", "finetune", phase]}, folder, {})
    else:
        places = {name: str((ended.folder / place).resolve()) for name, place in record["artifacts"].items()}
        for path in (folder, tmp_path / phase):
            path.mkdir()
        (tmp_path / phase / DONE).write_text("{}")
        (folder / "result.json").write_text(json.dumps(record | {"artifacts": {**places, phase: str(tmp_path / phase)}}))
    answer = dsel(*Ended(ended.config, folder, ended.query).attribute(), outputs=tmp_path)
    assert (answer.code, answer.err) == (0, "")
    (path,) = tmp_path.rglob("attributions.parquet")
    table = pl.read_parquet(path)
    assert set(table["side"]) == {"pretraining", "finetuning"}
    assert set(table["query_id"]) == {"<mine & 0>", "<mine & 1>"}


@pytest.mark.parametrize(
    ("argument", "want"),
    [
        ("checkpoint=outputs/runs/demo/arm=none/seed=0", "checkpoint='outputs/runs/demo/arm=none/seed=0'"),
        ("phases.attribute.queries.path=/a/b=c.jsonl", "phases.attribute.queries.path='/a/b=c.jsonl'"),
        ("+data@phases.ask.queries=a=b", "+data@phases.ask.queries='a=b'"),
        ("checkpoint=~/runs/seed=0", "checkpoint='~/runs/seed=0'"),
        ("checkpoint=C:/runs/seed=0", "checkpoint='C:/runs/seed=0'"),
    ],
)
def test_a_value_with_an_equals_sign_is_quoted(argument: str, want: str) -> None:
    assert quote([argument]) == [want]
    assert quote(quote([argument])) == [want]


@pytest.mark.parametrize(
    "argument",
    [
        "experiment=demo",
        "seed=0,1,2",
        "checkpoint='runs/arm=none'",
        'checkpoint="runs/arm=none"',
        "data.noise={copy:0.1,numbers:0.1}",
        "pipeline=[a=b]",
        "path=${oc.env:X,a=b}",
        "x=a=1,b=2",  # a sweep over two values
        "split.seed=glob(a=*)",
        "--cfg=job",
        "--help",
        "-m",
        "--config-dir=/home/me/a=b",  # no override, but an option
        "nonsense",
        "~phases.retrain",
        "key=",
    ],
)
def test_other_arguments_are_left_alone(argument: str) -> None:
    assert quote([argument]) == [argument]


def test_commas_are_quoted_where_the_file_is_there(tmp_path: Path) -> None:
    """As in folders of cells that two keys tell apart."""
    folder = tmp_path / "arm=none,seed=0"
    assert quote([f"checkpoint={folder}"]) == [f"checkpoint={folder}"]
    folder.mkdir()
    assert quote(["seed=1", f"checkpoint={folder}"]) == ["seed=1", f"checkpoint='{folder}'"]
