"""A run as a fold over phases: what is shared, what is left out, what is refused."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hydra.errors import HydraException
from made_up_corpus import artifact_names, documents, run_tiny, tiny_config, write_jsonl

from dsel import cli
from dsel.error import InputError
from dsel.pipeline import Run
from dsel.pool import read_table
from dsel.run import run_cell

Files = tuple[Path, Path]


def changed(config: dict[str, Any], **values: Any) -> dict[str, Any]:
    """A copy with other values, by dotted key with `__` for the dot."""
    copied = copy.deepcopy(config)
    for key, value in values.items():
        *way, last = key.split("__")
        node = copied
        for part in way:
            node = node[part]
        node[last] = value
    return copied


def test_the_demo_ends_with_its_metrics(files: Files, tmp_path: Path) -> None:
    run, state = run_tiny(tiny_config(*files, tmp_path / "out"))
    assert list(run.phases) == ["pretrain", "score", "select", "continue", "before", "finetune", "after"]
    assert set(state.metrics) == {
        "target_loss_before_ft", "target_loss_after_ft", "pool_loss_before_ft", "pool_loss_after_ft", "pool_loss",
        "selector_precision", "selector_recall", "selector_auc", "selected_documents",
    }  # fmt: skip
    assert all(np.isfinite(value) for value in state.metrics.values())
    assert state.metrics["pool_loss"] == state.metrics["pool_loss_after_ft"]
    assert list(state.artifacts) == ["corpus", "tokenizer", *run.phases]
    assert state.fingerprint == run.fingerprint


def test_cells_of_a_sweep_share_what_they_have_in_common(files: Files, tmp_path: Path) -> None:
    """Two budgets, one seed: pretraining and scoring are computed once."""
    configs = [tiny_config(*files, tmp_path / "out", f"budget.fraction={fraction}") for fraction in (0.1, 0.3)]
    states = [run_tiny(config)[1] for config in configs]
    found = Counter(artifact_names(configs[0]))
    assert found.pop("tokens") >= 5
    once, twice = ("corpus", "tokenizer", "pretrain", "score", "tune"), ("select", "continue", "before", "finetune", "after")
    assert found == dict.fromkeys(once, 1) | dict.fromkeys(twice, 2)
    reused = {name for name, cost in states[1].cost.items() if cost["reused"]}
    assert reused == {"pretrain", "score"}
    assert states[1].artifacts["score"] == states[0].artifacts["score"]
    # and what was reused costs the same in both results
    assert states[1].cost["pretrain"]["tokens"] == states[0].cost["pretrain"]["tokens"] > 0


def test_fingerprints_change_with_what_a_phase_depends_on(files: Files, tmp_path: Path) -> None:
    config = tiny_config(*files, tmp_path / "out")
    base = Run(config).keys

    def first_change(**values: Any) -> str | None:
        keys = Run(changed(config, **values)).keys
        return next((name for name in keys if keys[name] != base[name]), None)

    assert first_change(model__dim=16) == "tokenizer"
    assert first_change(seed=1) == "pretrain"
    assert first_change(split__overlap=0.5) == "corpus"
    assert first_change(phases__score__scorer__num_steps=7) == "score"
    assert first_change(phases__select__budget__fraction=0.2) == "select"
    assert first_change(phases__finetune__optimizer__lr=1.0) == "finetune"
    for key in ("label", "name", "objective"):
        assert first_change(**{key: "other"}) is None
    assert first_change(report={}, paths={"outputs": "elsewhere", "artifacts": "elsewhere"}) is None
    write_jsonl(files[1], documents("stars", 121))
    assert first_change() == "corpus"


def test_training_that_nobody_looks_at_is_left_out(files: Files, tmp_path: Path) -> None:
    output = tmp_path / "chosen.jsonl"
    overrides = ("scorer=domain_classifier", "budget.units=20", f"output={output}")
    config = tiny_config(*files, tmp_path / "out", *overrides, experiment="select")
    run, _ = run_tiny(config)
    assert list(run.phases) == ["score", "select", "quality", "export"]
    assert set(artifact_names(config)) == {"corpus", "score", "piece", "select", "quality", "export"}  # no tokens either
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    given = [json.loads(line) for line in files[0].read_text().splitlines()]
    assert [row["dsel_rank"] for row in rows] == list(range(20))
    assert all(given[row["dsel_row"]]["text"] == row["text"] for row in rows)
    scores = [row["dsel_score"] for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert json.loads(output.with_suffix(".json").read_text())["chosen"] == 20


def test_training_is_kept_where_a_scorer_looks_at_it(files: Files, tmp_path: Path) -> None:
    config = tiny_config(*files, tmp_path / "out", f"output={tmp_path / 'x.csv'}", "budget.units=5", experiment="select")
    assert list(Run(config).phases) == ["pretrain", "score", "select", "quality", "export"]
    last = changed(config, pipeline=["pretrain"])
    assert list(Run(last).phases) == ["pretrain"]  # what a run ends with is what it is for


@pytest.mark.parametrize("workers", [2])
def test_workers_do_not_change_the_selection(files: Files, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsel.phase.score.SHARD_SIZE", 32)
    chosen = []
    for number in (1, workers):
        overrides = (f"executor.num_workers={number}", "arm=cds")
        config = changed(tiny_config(*files, tmp_path / str(number), *overrides), pipeline=["pretrain", "score", "select"])
        _, state = run_tiny(config)
        assert state.selection is not None
        chosen.append(pl.read_parquet(state.artifacts["select"] / "selection.parquet"))
    assert chosen[0].equals(chosen[1])


@pytest.mark.parametrize(
    ("pipeline", "values", "message"),
    [
        (["pretrain", "scores"], {}, r"pipeline: there is no phase 'scores'; phases are pretrain, score"),
        ([], {}, "pipeline is empty"),
        (["select"], {}, "there are no scores; put a score phase before select in pipeline"),
        (["score"], {}, r"phases\.score: .* put a train phase before it in pipeline"),
        (["finetune"], {}, r"phases\.finetune: start=weights needs the checkpoint"),
        (["before"], {}, r"phases\.before"),
        (["pretrain", "before"], {"phases__before__checkpoint": "finetune"}, r"phases\.before\.checkpoint=finetune"),
        (["pretrain", "continue"], {}, r"phases\.continue\.data=selection: nothing is selected yet"),
        (["pretrain", "finetune"], {"phases__finetune__data": {"sauce": 1.0}}, r"phases\.finetune\.data=sauce"),
        (["pretrain"], {"phases__select__budget__fraction": None, "pipeline": ["select"]}, r"budget: give exactly one"),
        (["pretrain", "after"], {"model": None}, "model=null: the pipeline trains"),
        (["pretrain"], {"phases__pretrain__optimizer": {"_target_": "os.system"}}, r"optimizer\._target_=os\.system: not allowed"),
        (["pretrain"], {"model": {"_target_": "subprocess.run"}}, r"_target_=subprocess\.run: not allowed"),
    ],
)  # fmt: skip
def test_mistakes_name_their_key(
    files: Files, tmp_path: Path, pipeline: list[str], values: dict[str, Any], message: str
) -> None:  # fmt: skip
    config = changed(tiny_config(*files, tmp_path / "out"), pipeline=pipeline)
    with pytest.raises((InputError, HydraException)) as caught:
        run_tiny(changed(config, **values))
    assert re.search(message, cli.explain(caught.value, []) or "no line for the user")
    assert not [name for name in artifact_names(config) if name in ("select", "score", "finetune", "after")]


def test_a_budget_over_the_pool_is_an_error_before_training(files: Files, tmp_path: Path) -> None:
    config = tiny_config(*files, tmp_path / "out", "budget.fraction=null", "budget.units=9999")
    with pytest.raises(InputError, match=r"budget\.units=9999 is over the pool's size"):
        run_tiny(config)
    assert "pretrain" not in artifact_names(config)


def test_a_token_budget_is_counted_without_a_trained_model(files: Files, tmp_path: Path) -> None:
    overrides = ("scorer=domain_classifier", "budget.tokens=500", f"output={tmp_path / 'x.parquet'}")
    config = tiny_config(*files, tmp_path / "out", *overrides, experiment="select")
    _, state = run_tiny(config)
    assert "pretrain" not in state.artifacts
    assert 300 < sum(read_table(state.artifacts["select"] / "chosen.arrow")["length"].to_pylist()) <= 500
    assert len(pl.read_parquet(tmp_path / "x.parquet")) == state.metrics["selected_documents"]


def test_a_second_launch_does_nothing_and_another_config_keeps_the_first_result(
    files: Files, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, folder = tiny_config(*files, tmp_path / "out", "arm=random"), tmp_path / "out" / "runs" / "cell"
    caplog.set_level("INFO", "dsel")
    value = run_cell(config, folder, {"arm": "random"})
    first = (folder / "result.json").read_bytes()
    assert value == json.loads(first)["metrics"]["target_loss_after_ft"]
    caplog.clear()
    assert run_cell(config, folder, {"arm": "random"}) == value
    assert "nothing to do" in caplog.text
    assert (folder / "result.json").read_bytes() == first
    other = changed(config, phases__finetune__optimizer__lr=1e-2)
    assert run_cell(other, folder, {"arm": "random"}) != value
    kept = [path.read_bytes() for path in folder.glob("result.*.json")]
    assert kept == [first]


def test_result_states_the_cost(files: Files, tmp_path: Path) -> None:
    config, folder = tiny_config(*files, tmp_path / "out", "phases.pretrain.until=0.6"), tmp_path / "out" / "runs" / "cell"
    run_cell(config, folder, {"seed": "0", "budget.fraction": "0.05"})
    result = json.loads((folder / "result.json").read_text())
    assert result["overrides"] == {"seed": 0, "budget.fraction": 0.05}
    cost, phases = result["cost"], result["cost"]["phases"]
    steps = {name: phases[name]["optimizer_steps"] for name in ("pretrain", "continue", "finetune")}
    assert steps == {"pretrain": 12, "continue": 8, "finetune": 4}
    assert cost["optimizer_steps"] == 24
    assert cost["tokens"] == 24 * 4 * 32
    assert cost["scoring_passes"] == 2
    assert all(phase["seconds"] >= 0 and not phase["reused"] for phase in phases.values())
    for path in result["artifacts"].values():
        assert (folder / path / "done.json").is_file()
