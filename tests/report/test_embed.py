"""What stands in a page for its script: every cell, what cells share only once, and nothing that is markup."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from embedded import read_data
from made_up_sweep import ARMS, DOMAINS, NASTY, losses, write_cell, write_sweep

from dsel.report import embed_selected
from dsel.report.build import build
from dsel.report.content import gather
from dsel.report.curves import MAX_POINTS
from dsel.report.embed import embed, first_metric, to_value
from dsel.report.results import read_sweep


@pytest.fixture(scope="module")
def value(sweep_folder: Path) -> dict[str, Any]:
    return to_value(gather(read_sweep(sweep_folder), images=False))


def _metric(value: dict[str, Any], key: str) -> dict[str, Any]:
    return next(metric for metric in value["metrics"] if metric["key"] == key)


def _setting(value: dict[str, Any], key: str, cell: int) -> Any:
    column = next(column for column in value["keys"] if column["key"] == key)
    return column["values"][column["at"][cell]] if column["at"][cell] >= 0 else None


def test_json_cannot_end_its_element(sweep_folder: Path) -> None:
    text = embed(gather(read_sweep(sweep_folder), images=False))
    assert "<" not in text
    assert NASTY in [document[2] for document in json.loads(text)["documents"]]


def test_every_cell_has_its_own_numbers(value: dict[str, Any]) -> None:
    after = _metric(value, "metrics.target_loss_after_ft")
    assert after["better"] == "low"
    assert after["long"] == "target loss after fine-tuning"
    for at, group in enumerate(value["cells"]["group"]):
        arm, fraction = _setting(value, "arm", at), _setting(value, "budget.fraction", at)
        expected = losses(arm, fraction, value["cells"]["seed"][at])
        assert after["values"][at] == pytest.approx(expected["target_loss_after_ft"], rel=1e-5)
        assert value["groups"][group]["name"] == f"{arm} · {100 * fraction:g}%"


def test_groups_know_what_they_are_compared_with(value: dict[str, Any]) -> None:
    names = [group["name"] for group in value["groups"]]
    partners = {group["name"]: group["partner"] for group in value["groups"]}
    assert partners["cds · 3%"] == names.index("random · 3%")
    assert partners["random · 3%"] is None


def test_settings_are_split_into_common_ones_and_those_that_differ(value: dict[str, Any]) -> None:
    varied = [column["key"] for column in value["keys"] if column["varied"]]
    assert varied == ["arm", "budget.fraction", "seed"]
    assert {column["key"] for column in value["keys"]} - set(varied) == {"scorer._target_"}
    assert value["common"] == {}
    assert next(column for column in value["keys"] if column["key"] == "budget.fraction")["values"] == [0.03, 0.3]


def test_keys_of_some_cells_only_are_absent_elsewhere(tmp_path: Path) -> None:
    write_cell(tmp_path / "sweep", "cds", 0.3, 0)
    write_cell(tmp_path / "sweep", "random", 0.3, 0)
    path = next(path for path in (tmp_path / "sweep").rglob("result.json") if "arm=cds" in str(path))
    record = json.loads(path.read_text())
    record["config"] |= {"scorer": {"depth": [1, 2]}, "logger": {}}
    path.write_text(json.dumps(record))
    value = to_value(gather(read_sweep(tmp_path / "sweep"), images=False))
    cds = value["cells"]["label"].index("cds")
    assert _setting(value, "scorer.depth", cds) == "[1, 2]"
    assert _setting(value, "logger", cds) == "{}"
    assert _setting(value, "scorer.depth", 1 - cds) is None
    assert value["common"]["budget.fraction"] == 0.3


def test_curves_are_thin_and_shared_arrays_stand_once(value: dict[str, Any]) -> None:
    assert [curve["phase"] for curve in value["curves"]] == ["continue", "finetune"]
    assert len({own["step"] for own in value["curves"][0]["cells"]}) == 1
    assert len({own["target_loss"] for own in value["curves"][0]["cells"]}) == len(value["cells"]["seed"])
    assert all(len(values) <= MAX_POINTS + 1 for values in value["arrays"])


def test_phases_keep_the_order_of_the_pipeline(value: dict[str, Any]) -> None:
    assert [phase["name"] for phase in value["phases"]] == ["pretrain", "score", "continue", "finetune"]
    pretrain = value["phases"][0]
    assert pretrain["reused"] == [int(label != "none") for label in value["cells"]["label"]]
    chosen, phases = _metric(value, "cost.chosen_seconds"), value["phases"][1:]
    assert chosen["values"][0] == pytest.approx(sum(phase["seconds"][0] for phase in phases))


def test_selections_name_their_domains_and_documents(value: dict[str, Any]) -> None:
    assert len(value["selected"]) == (len(ARMS) - 1) * 6
    assert set(value["domains"]) == set(DOMAINS)
    row = value["selected"][0]
    assert [len(row["highest"]), len(row["lowest"])] == [3, 3]
    assert len(row["histogram"]["edges"]) == len(row["histogram"]["pool"]) + 1
    assert len(value["documents"]) == 1  # the same text in every cell


def test_a_page_that_is_full_keeps_ids_of_documents(sweep_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed_selected, "MAX_TEXT", 10)
    found = to_value(gather(read_sweep(sweep_folder), images=False))["documents"]
    assert found == [["numpy/<i>x</i>", "numpy", ""]]


def test_without_losses_the_page_opens_with_what_tells_cells_apart() -> None:
    same = {"key": "metrics.a", "better": "high", "values": [1, 1]}
    told = {"key": "metrics.b", "better": "high", "values": [1, 2]}
    cost = {"key": "cost.seconds", "better": "low", "values": [1, 2]}
    assert first_metric([cost, same, told]) == "metrics.b"
    assert first_metric([cost, same]) == "metrics.a"
    assert first_metric([]) is None


def test_a_sweep_with_other_metrics_only(tmp_path: Path) -> None:
    write_sweep(tmp_path / "sweep")
    for path in (tmp_path / "sweep").rglob("result.json"):
        record = json.loads(path.read_text())
        record["metrics"] = {"my_number": record["seed"] / 3, "steps": 4}
        path.write_text(json.dumps(record))
    data = read_data(build(tmp_path / "sweep", formats=(), quiet=True).read_text(encoding="utf-8"))
    assert data["metric"] == "metrics.my_number"
    assert [_metric(data, f"metrics.{name}")["decimals"] for name in ("my_number", "steps")] == [4, 0]
