"""What a selection from a stream is worth: the numbers against plain Python on whole files, the table and the page."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from command import Answer, dsel
from made_up_corpus import POOL_DOMAINS, TARGET_DOMAIN, documents, write_jsonl
from scipy.stats import entropy
from sklearn.metrics import roc_auc_score

from dsel.data.shards import Shards
from dsel.functional.ngrams import Ngrams
from dsel.phase import appraise
from dsel.pool import Pool
from dsel.protocol import Stream
from dsel.report.__main__ import main
from dsel.stream import PoolStream

Rows = list[dict[str, Any]]
NUM_HIDDEN, BUDGET = 40, 50


def pool_rows() -> Rows:
    rows = [row for domain in POOL_DOMAINS for row in documents(domain, 100)] + documents(TARGET_DOMAIN, NUM_HIDDEN, seed=1)
    rows = sorted(rows, key=lambda row: row["text"])
    long = max((row for row in rows if row["domain"] == TARGET_DOMAIN), key=lambda row: len(row["text"]))
    near = [{**long, "text": f"{long['text']} Number {n}.", "id": f"near-{n}"} for n in range(3)]
    return [
        *rows[:100],
        {**rows[0], "id": "a repeat"},
        *near,
        {"id": "none", "text": "<b>no & domain</b> at all", "domain": None},
        *rows[100:],
    ]


Files = tuple[Path, Path]


def write_files(folder: Path) -> Files:
    """A folder of two files, the pool, and the target."""
    rows = pool_rows()
    (folder / "pool").mkdir()
    write_jsonl(folder / "pool" / "a.jsonl", rows[:130])
    pq.write_table(pa.Table.from_pylist(rows[130:]), folder / "pool" / "b.parquet")
    return folder / "pool", write_jsonl(folder / "mine.jsonl", [{"text": row["text"]} for row in documents(TARGET_DOMAIN, 60)])


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return write_files(tmp_path)


def run(files: Files, *more: str, scorer: str = "dsir") -> Answer:
    source, target = files
    given = [f"source={source}", f"target={target}", f"output={target.parent / 'best.parquet'}", f"scorer={scorer}"]
    return dsel("experiment=select", *given, f"budget.units={BUDGET}", "overwrite=true", *more, outputs=target.parent / "outputs")


def read(files: Files, pattern: str) -> Any:
    """The newest file among artifacts and results."""
    found = sorted((files[1].parent / "outputs").glob(pattern), key=lambda path: path.stat().st_mtime_ns)
    return json.loads(found[-1].read_text())


def quality_of(files: Files, *more: str, scorer: str = "dsir") -> Any:
    answer = run(files, *more, scorer=scorer)
    assert (answer.code, answer.err) == (0, "")
    return read(files, "artifacts/quality-*/quality.json")


def written(files: Files) -> Rows:
    rows: Rows = pq.read_table(files[1].parent / "best.parquet").to_pylist()
    return rows


@dataclass(frozen=True)
class Whole:
    """A selection as a user sees it, and all documents of the pool with their scores, from a selection of everything."""

    files: Files
    answer: Answer
    page: Path
    quality: Any
    samples: Any
    record: Any
    chosen: Rows
    pool: Rows


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    files = write_files(tmp_path_factory.mktemp("whole"))
    answer = run(files, f"phases.quality.positive={TARGET_DOMAIN}")
    assert (answer.code, answer.err) == (0, "")
    quality, samples = (read(files, f"artifacts/quality-*/{name}.json") for name in ("quality", "samples"))
    page, record = next((files[1].parent / "outputs").rglob("report.html")), json.loads((files[1].parent / "best.json").read_text())
    chosen = written(files)
    assert run(files, "budget.units=null", "budget.fraction=1", "phases.quality.documents=0").code == 0
    everything = written(files)
    repeated = next(row for row in everything if row["text"] == pool_rows()[0]["text"])  # written once, scored twice
    return Whole(files, answer, page, quality, samples, record, chosen, [*everything, repeated])


def test_the_numbers_are_those_of_the_whole(whole: Whole) -> None:
    found, pool, chosen = whole.quality, whole.pool, whole.chosen
    assert (found["documents"], found["chosen"]) == (len(pool), len(chosen)) == (len(pool_rows()), BUDGET)
    scores = np.array([row["dsel_score"] for row in pool])
    is_positive = np.array([row["domain"] == TARGET_DOMAIN for row in pool])
    assert found["labels"]["auc"] == pytest.approx(roc_auc_score(is_positive, scores), abs=1e-12)
    hits = sum(row["domain"] == TARGET_DOMAIN for row in chosen)
    distinct = {row["text"] for row in pool if row["domain"] == TARGET_DOMAIN}
    assert found["labels"]["precision"] == hits / BUDGET
    assert found["labels"]["recall"] == hits / len(distinct)
    own = [row["dsel_score"] for row in chosen]
    assert found["scores"] == {"pool": [scores.min(), scores.max()], "selected": [min(own), max(own)], "threshold": own[-1]}
    edges = found["histogram"]["edges"]
    for side, values in (("pool", scores), ("selected", own), ("positive", scores[is_positive])):
        assert found["histogram"][side] == np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0].tolist()
    for side, rows in (("pool", pool), ("selected", chosen)):
        lengths = sorted(len(row["text"]) for row in rows)
        assert found["length"][side]["mean"] == pytest.approx(np.mean(lengths))
        assert found["length"][side]["deciles"] == [lengths[max(-(-tenth * len(lengths) // 10), 1) - 1] for tenth in range(11)]
        counts = Counter(row["domain"] or "(none)" for row in rows)
        assert {entry["domain"]: entry[side] for entry in found["domains"] if entry[side]} == counts


def test_kl_and_near_duplicates_by_hand(whole: Whole) -> None:
    found, ngrams = whole.quality, Ngrams()
    assert found["compared"] == {"selected": BUDGET, "pool": BUDGET, "characters": appraise.MOST_CHARACTERS}
    counts = ngrams.count(pa.array([row["text"] for row in whole.chosen]))
    folder = next((whole.files[1].parent / "outputs").glob("artifacts/corpus-*"))
    with pa.ipc.open_file(folder / "target.arrow") as file:
        expected = entropy(ngrams.count(file.read_all()["text"]), counts + 1)
    assert found["kl"]["selected"] == pytest.approx(expected)
    assert found["kl"]["reduction"] == found["kl"]["pool"] - found["kl"]["selected"]
    assert min(found["kl"]["reduction"], found["kl"]["held_out_reduction"]) > 0.2
    assert sum(row["id"].startswith("near-") for row in whole.chosen) == 3
    assert found["near_duplicates"]["selected"] == 3 / BUDGET  # of four alike the best is none
    assert found["near_duplicates"]["pool"] <= 3 / BUDGET


def test_samples_are_the_first_the_last_and_the_next(whole: Whole) -> None:
    order = sorted({row["text"]: row for row in whole.pool}.values(), key=lambda row: -row["dsel_score"])
    assert [one["kind"] for one in whole.samples] == ["first"] * 5 + ["last"] * 5 + ["next"] * 5
    assert [one["rank"] for one in whole.samples] == [*range(5), *range(BUDGET - 5, BUDGET + 5)]
    for one in whole.samples:
        row = order[one["rank"]]
        assert (one["text"], one["score"], one["place"]) == (row["text"][:300], row["dsel_score"], row["dsel_row"])
        assert (one["domain"], one["file"]) == (row["domain"], Path(row["dsel_file"]).name)


def test_the_table_and_the_page(whole: Whole, capsys: pytest.CaptureFixture[str]) -> None:
    quality, html = whole.quality, whole.page.read_text(encoding="utf-8")
    figures = [f"{quality['documents']}", f"{quality['chosen']}", f"{quality['labels']['auc']:.4f}", f"{quality['kl']['selected']:.3f}"]
    figures += [f"{quality['kl']['reduction']:.3f} closer", f"{quality['scores']['threshold']:.4g}", TARGET_DOMAIN, "6.0 %"]
    for text in figures:
        assert text in whole.answer.out
        assert text in html
    assert html.count("<svg") == 2
    assert "<script" not in html
    assert not re.search(r"https?://", html.partition("Resolved configuration")[0])
    assert whole.record["quality"] == quality
    assert whole.record["metrics"]["kl_reduction"] == quality["kl"]["reduction"]
    assert f"report: {whole.page}" in whole.answer.out
    whole.page.unlink()
    assert main([str(whole.page.parent)]) == 0
    assert f"report: {whole.page}" in capsys.readouterr().out
    assert whole.page.read_text(encoding="utf-8") == html


def test_the_page_escapes_documents(files: Files) -> None:
    assert run(files, "budget.units=340", "phases.quality.samples=400").code == 0
    html = next((files[1].parent / "outputs").rglob("report.html")).read_text(encoding="utf-8")
    assert "&lt;b&gt;no &amp; domain&lt;/b&gt; at all" in html
    assert "<b>no" not in html
    samples = read(files, "artifacts/quality-*/samples.json")
    assert [one["rank"] for one in samples] == [*range(len(samples))]  # none twice


def test_pieces_do_not_matter(whole: Whole, files: Files) -> None:
    source = write_jsonl(files[1].parent / "one.jsonl", pool_rows())
    found = quality_of((source, files[1]), f"phases.quality.positive={TARGET_DOMAIN}", "data.piece_bytes=3000")
    assert len(list((files[1].parent / "outputs").glob("artifacts/piece-*"))) > 12
    assert found == whole.quality
    samples = read(files, "artifacts/quality-*/samples.json")
    assert [{**one, "file": ""} for one in samples] == [{**one, "file": ""} for one in whole.samples]


def test_texts_come_from_few_pieces(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appraise, "MOST_PIECES", 1)
    found = quality_of(files, "phases.quality.samples=0")
    chosen = written(files)
    by_file = Counter(Path(row["dsel_file"]).name for row in chosen)
    assert found["compared"]["selected"] in by_file.values()


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv", "pool"])
def test_texts_are_those_that_are_read(tmp_path: Path, kind: str) -> None:
    rows = [{"body": " " if n % 7 == 3 else f"Text number {n}, which is long.", "n": n} for n in range(50)]
    path = tmp_path / f"pool.{kind}"
    if kind == "jsonl":
        write_jsonl(path, rows)
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=20)
    elif kind == "csv":
        path.write_text("body,n\n" + "".join(f'"{row["body"]}",{row["n"]}\n' for row in rows))
    else:
        path = write_jsonl(tmp_path / "pool.jsonl", rows)
    data = Shards(str(path), str(path), text_column="body", on_bad_row="skip", max_characters=15)
    stream: Stream = PoolStream(Pool("source", data.read().source, "")) if kind == "pool" else data.stream
    for part in stream.pieces:
        whole = pa.concat_tables(stream.read(part, stream.sieve()))
        wanted = whole.filter(pc.equal(pc.bit_wise_and(whole["dsel_row"], 1), 1))
        found = pa.chunked_array([chunk for texts in stream.texts(part, wanted["dsel_row"].to_numpy()) for chunk in texts.chunks])
        assert found.to_pylist() == wanted["text"].to_pylist()
        assert len(found) > 10
        assert max(map(len, found.to_pylist())) == 15


def test_planted_documents(files: Files) -> None:
    source, target = files
    rows = [row for row in pool_rows() if row["domain"] != TARGET_DOMAIN]
    found = quality_of((write_jsonl(source.parent / "plain.jsonl", rows), target), "data=files", "split.planted=10", "budget.units=10")
    assert found["labels"] == {"positive": "planted", "documents": 10, "precision": 1, "recall": 1, "auc": 1, "auc_error": 0}
    result = read(files, "runs/**/result.json")
    assert {"selector_precision", "selector_recall", "selector_auc", "kl_reduction", "near_duplicates"} <= result["metrics"].keys()


@pytest.mark.parametrize(
    ("more", "left_out"),
    [
        (["phases.quality.documents=0"], {"kl", "near_duplicates", "compared", "labels"}),
        (["phases.quality.kl_reduction=false"], {"kl", "labels"}),
        (["phases.quality.near_duplicates=false", "phases.quality.samples=0"], {"near_duplicates", "labels"}),
    ],
)
def test_parts_may_be_left_out(files: Files, more: list[str], left_out: set[str]) -> None:
    everything = {"kl", "near_duplicates", "compared", "labels", "domains", "length", "scores", "histogram"}
    assert everything - quality_of(files, *more).keys() == left_out
    assert bool(read(files, "artifacts/quality-*/samples.json")) == ("samples" not in more[-1])


def test_without_the_phase_there_is_no_report(files: Files) -> None:
    answer = run(files, "pipeline=[pretrain,score,select,export]")
    assert (answer.code, "report:" in answer.out) == (0, False)
    assert "quality" not in json.loads((files[1].parent / "best.json").read_text())


def test_a_domain_that_is_not_there(files: Files) -> None:
    answer = run(files, "phases.quality.positive=moon")
    assert answer.error.startswith("phases.quality.positive=moon: no document is of that domain; there are ")
    assert TARGET_DOMAIN in answer.error
    source = write_jsonl(files[1].parent / "plain.jsonl", [{"text": row["text"]} for row in pool_rows()])
    assert "there are none; set data.domain_column=" in run((source, files[1]), "phases.quality.positive=moon").error
    assert "phases.quality.documents=-1: must be 0 or more" in run(files, "phases.quality.documents=-1").error


def test_a_run_that_fails_shows_no_table_of_an_earlier_one(files: Files) -> None:
    assert "report: " in run(files).out
    files[1].write_text("")
    again = run(files)
    assert again.code == 1
    assert "report: " not in again.out
    assert "KL" not in again.out


def test_a_sweep_of_selections_compares_them(files: Files) -> None:
    answer = run(files, "hydra.mode=MULTIRUN", "+hydra.callbacks.report.images=false", scorer="dsir,random")
    assert answer.code == 0, answer
    assert "KL reduction" in answer.out
    page = next((files[1].parent / "outputs").rglob("report.html")).read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert len(data["selected"]) == 2
    assert all(row["domains"] and row["histogram"]["selected"] for row in data["selected"])
