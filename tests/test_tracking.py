"""What trackers are told: curves of all phases, computed or reused, metrics, config, tables, and a sweep's report."""

from __future__ import annotations

import csv
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import TINY, TINY_CDS, Answer, spawn
from made_up_corpus import write_files

BLOCK, FULL, LAST = 32768, 1, 4
EVERY = [f"phases.{name}.every=2" for name in ("pretrain", "continue", "finetune")]
CURVES = {"pretrain/train_loss", "pretrain/target_loss", "continue/target_loss", "finetune/target_loss"}
FINAL = {"final/target_loss_before_ft", "final/target_loss_after_ft", "final/selector_auc"}


def run(folder: Path, *more: str) -> Answer:
    """A cell of the demo, or a sweep, without a network and without an account."""
    source, target = write_files(folder, 30, 60)
    sizes = ["split.planted=10", "split.target=0.4", "split.finetune=0.4", "arm=cds", *EVERY]
    files = ["data=files", f"source={source}", f"target={target}"]
    env = {"WANDB_API_KEY": "", "HOME": str(folder), "WANDB_SILENT": "true", "WANDB_DATA_DIR": str(folder / "wandb-data")}
    return spawn("experiment=demo", *TINY, *TINY_CDS, *files, *sizes, *more, outputs=folder / "out", env=env)


def wandb_records(path: Path) -> Iterator[Any]:
    """What an offline run wrote: protocol buffers in LevelDB's log format, whose records may be cut at the ends of blocks."""
    from wandb.proto import wandb_internal_pb2

    data, place, whole = path.read_bytes(), 7, b""  # the file begins with 7 bytes of its own
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:  # no room for a header: the block is padded
            place += BLOCK - place % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def summarize(path: Path) -> dict[str, Any]:
    """Group, name, config keys, history keys and artifacts of an offline run."""
    found: dict[str, Any] = {"history": set(), "artifacts": {}, "config": set()}
    for record in wandb_records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found |= {"group": record.run.run_group, "name": record.run.display_name, "id": record.run.run_id}
            found["config"] |= {item.key for item in record.run.config.update}
        elif kind == "config":
            found["config"] |= {item.key or item.nested_key[0] for item in record.config.update}
        elif kind == "history":
            found["history"] |= {item.key or "/".join(item.nested_key) for item in record.history.item}
        elif kind == "artifact":
            found["artifacts"][record.artifact.type] = {entry.path for entry in record.artifact.manifest.contents}
        elif kind == "request" and record.request.WhichOneof("request_type") == "log_artifact":
            artifact = record.request.log_artifact.artifact
            found["artifacts"][artifact.type] = {entry.path for entry in artifact.manifest.contents}
    return found


def test_csv(tmp_path: Path) -> None:
    for turn in range(2):  # the second time every phase is found on disk
        answer = run(tmp_path, "hydra.mode=RUN", "logger=csv", f"label=turn{turn}")
        assert (answer.code, answer.err) == (0, "")
        assert answer.out.count("reused") == (0 if turn == 0 else 8)
        (file,) = tmp_path.glob(f"out/runs/demo/*turn{turn}*/seed=0/csv/metrics.csv")
        with file.open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        assert set(rows[0]) >= CURVES | FINAL
        steps = [int(row["step"]) for row in rows]
        assert steps == sorted(steps)
        assert sum(bool(row["pretrain/target_loss"]) for row in rows) >= 4
        assert (file.parent / "hparams.yaml").read_text().count("label") >= 1


def test_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert run(tmp_path, "hydra.mode=RUN", "logger=tensorboard").code == 0
    (events,) = tmp_path.glob("out/runs/demo/**/events.out.tfevents.*")
    reader = EventAccumulator(str(events)).Reload()
    assert set(reader.Tags()["scalars"]) >= CURVES | FINAL
    assert "hp_metric" not in reader.Tags()["scalars"]


def test_tensorboard_shows_parameters_beside_metrics(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    assert run(tmp_path, "hydra.mode=RUN", "logger=tensorboard", "budget.fraction=0.2").code == 0
    found = [EventAccumulator(str(path)).Reload() for path in tmp_path.glob("out/runs/demo/**/events.out.tfevents.*")]
    content = {tag: data for reader in found for tag, data in reader.PluginTagToContent("hparams").items()}
    start = HParamsPluginData.FromString(content["_hparams_/session_start_info"]).session_start_info
    assert {"seed", "label", "budget.fraction"} <= set(start.hparams)
    experiment = HParamsPluginData.FromString(content["_hparams_/experiment"]).experiment
    assert {info.name.tag for info in experiment.metric_infos} >= FINAL


@pytest.mark.slow
def test_wandb_offline(tmp_path: Path) -> None:
    answer = run(tmp_path, "seed=0", "budget.fraction=0.2,0.5", "logger=wandb")
    assert answer.code == 0, answer.err
    cells = sorted(tmp_path.glob("out/runs/demo/*/seed=0/wandb/offline-run-*/*.wandb"))
    assert len(cells) == 2
    found = [summarize(path) for path in cells]
    assert len({run["id"] for run in found}) == 2
    for summary in found:
        assert (summary["group"], summary["name"]) == ("demo", "cds-seed0")
        assert summary["history"] >= CURVES | FINAL
        assert any(key.startswith("selection") for key in summary["history"])
        assert {"seed", "label", "name", "budget.fraction"} <= summary["config"]
        assert {"select/selection.parquet", "score/scores.json", "pretrain/curve.parquet"} <= summary["artifacts"]["phases"]
    sync = [sys.executable, "-m", "wandb", "sync", "--dry-run", *map(str, (path.parent for path in cells))]
    accepted = subprocess.run(sync, capture_output=True, text=True, check=True)  # wandb's own look at what is to be sent
    assert "Would sync 2 run(s)" in accepted.stdout + accepted.stderr
    (of_report,) = [summarize(path) for path in tmp_path.glob("out/runs/demo/wandb/offline-run-*/*.wandb")]
    assert (of_report["group"], of_report["name"]) == ("demo", "report")
    assert {"report.html", "table.csv", "results.parquet"} <= of_report["artifacts"]["report"]


@pytest.mark.slow
def test_a_cell_that_fails_closes_its_run(tmp_path: Path) -> None:
    """More is to be hidden than there is: known when the corpus is made, with the run under way."""
    answer = run(tmp_path, "seed=0", "split.planted=100000,5", "logger=wandb", "+hydra.callbacks.report.images=false")
    assert answer.code == 1
    assert len(list(tmp_path.glob("out/runs/demo/*/seed=0/wandb/offline-run-*/*.wandb"))) == 2
    (result,) = tmp_path.glob("out/runs/demo/*/seed=0/result.json")
    assert json.loads(result.read_text())["config"]["split"]["planted"] == 5
