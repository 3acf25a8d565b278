"""experiment=select: from a pool and a few examples in files of the user's own to the best rows in a file."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import TINY, TINY_CDS, Answer, dsel, skip_for_root
from made_up_corpus import POOL_DOMAINS, TARGET_DOMAIN, documents, write_jsonl

Rows = list[dict[str, Any]]
NUMBERS = b'{"text": 3}\n{"text": 4}\n'


def pool_rows(hidden: int = 6) -> Rows:
    """A pool with columns of the user's, in which every tenth document is of the target's kind."""
    plain = [row for domain in POOL_DOMAINS for row in documents(domain, 18)]
    rows = sorted([*plain, *documents(TARGET_DOMAIN, hidden, seed=1)], key=lambda row: row["text"])
    return [{"key": 1000 + n, "text": row["text"], "length": len(row["text"]) / 2, "topic": row["domain"]} for n, row in enumerate(rows)]


def write(path: Path, rows: Rows) -> Path:
    """The rows in the format that the name asks for."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        write_jsonl(path, rows)
    return path


def read(path: Path) -> Rows:
    """The rows of a file, csv's numbers as numbers."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()  # type: ignore[no-any-return]
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with path.open(newline="", encoding="utf-8") as file:
        return [{k: (v if k in ("text", "topic") else float(v)) for k, v in row.items()} for row in csv.DictReader(file)]


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return write(tmp_path / "pool.jsonl", pool_rows())


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Makes a package of the user's own with one module of these lines, and says what to import."""

    def make(name: str, lines: str) -> str:
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.py").write_text(lines)
        monkeypatch.syspath_prepend(tmp_path)
        return f"{name}.own"

    return make


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return write(tmp_path / "mine.jsonl", [{"text": row["text"]} for row in documents(TARGET_DOMAIN, 20)])


def run(source: Path | str, target: Path | str, output: Path | str, *more: str, scorer: str = "domain_classifier") -> Answer:
    """`dsel experiment=select`, with its artifacts beside the target."""
    given = [f"source={source}", f"target={target}", f"output={output}", f"scorer={scorer}"]
    if not any(item.startswith("budget.") for item in more):
        given.append("budget.units=5")
    outputs = Path(target).parent if Path(target).is_absolute() else Path.cwd()
    return dsel("experiment=select", *given, *more, outputs=outputs / "outputs")


@pytest.mark.parametrize(
    ("source", "output"), [("pool", "pool/new/best.jsonl"), ("pool/*.jsonl", "pool/b.jsonl"), ("pool", "pool/a.jsonl")]
)
def test_an_output_inside_the_source(mine: Path, tmp_path: Path, source: str, output: str) -> None:
    (tmp_path / "pool").mkdir()
    before = write(tmp_path / "pool" / "a.jsonl", pool_rows()).read_bytes()
    error = run(tmp_path / source, mine, tmp_path / output, "overwrite=true").error
    assert f"lies in source={tmp_path / source}, and would be read as a part of it; give another place" in error
    assert (tmp_path / "pool" / "a.jsonl").read_bytes() == before


@pytest.mark.parametrize("kind", [".parquet", ".jsonl", ".csv"])
def test_the_best_rows_with_all_their_columns(mine: Path, tmp_path: Path, kind: str) -> None:
    rows = pool_rows()
    source, output = write(tmp_path / f"pool{kind}", rows), tmp_path / "new" / f"best{kind}"
    answer = run(source, mine, output)
    assert (answer.code, answer.err) == (0, "")
    chosen = read(output)
    assert len(chosen) == 5
    assert list(chosen[0]) == ["key", "text", "length", "topic", "dsel_rank", "dsel_score", "dsel_row"]
    assert [row["dsel_rank"] for row in chosen] == list(range(5))
    scores = [row["dsel_score"] for row in chosen]
    assert scores == sorted(scores, reverse=True)
    for row in chosen:
        assert rows[int(row["dsel_row"])] == {key: row[key] for key in rows[0]}
    assert {row["topic"] for row in chosen} == {TARGET_DOMAIN}
    assert {path.name for path in output.parent.iterdir()} == {f"best{kind}", "best.json"}


def test_by_contrastive_data_selection(pool: Path, mine: Path, tmp_path: Path) -> None:
    answer = run(pool, mine, tmp_path / "best.parquet", *TINY, *TINY_CDS, scorer="cds")
    assert (answer.code, answer.err) == (0, "")
    table = pq.read_table(tmp_path / "best.parquet")
    assert table.column_names == ["key", "text", "length", "topic", "dsel_rank", "dsel_score", "dsel_row"]
    assert table.num_rows == 5


def test_the_record_says_how_it_came_about(mine: Path, tmp_path: Path) -> None:
    rows = pool_rows()
    leaked = json.loads(mine.read_text().splitlines()[0])["text"]
    source = write(tmp_path / "pool.jsonl", [*rows, rows[0], rows[1], {**rows[2], "text": leaked}])
    assert run(source, mine, tmp_path / "selected.parquet").code == 0
    record = json.loads((tmp_path / "selected.json").read_text())
    assert record["read"] == {"source": len(rows) + 3, "target": 20}
    assert record["dropped"]["source"] == {"duplicate": 2, "also_in_target": 1}
    assert record["chosen"] == 5
    assert set(record["fingerprints"]) == {"source", "target", "run"}
    assert record["config"]["budget"]["units"] == 5
    assert record["config"]["source"] == str(source)
    assert record["seconds"] > 0
    assert leaked not in {row["text"] for row in read(tmp_path / "selected.parquet")}


def test_names_and_types_of_the_users_columns_stay(mine: Path, tmp_path: Path) -> None:
    rows = [{"id": r["key"], "body": r["text"], "text": "a title", "domain": n % 2, "odd": None} for n, r in enumerate(pool_rows())]
    rows[3]["id"] = None
    target = write(tmp_path / "target.jsonl", [{"body": json.loads(line)["text"]} for line in mine.read_text().splitlines()])
    source = write(tmp_path / "pool.parquet", rows)
    assert run(source, target, tmp_path / "best.jsonl", "data.text_column=body", "budget.fraction=1").code == 0
    chosen = read(tmp_path / "best.jsonl")
    assert len(chosen) == len(rows)
    for row in chosen:
        assert set(row) == {*rows[0], "dsel_rank", "dsel_score", "dsel_row"}
        assert {key: row[key] for key in rows[0]} == rows[row["dsel_row"]]


def test_ids_and_domains_under_other_names_add_no_column(mine: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "pool.jsonl", pool_rows())
    assert run(source, mine, tmp_path / "best.jsonl", "data.id_column=key", "data.domain_column=topic").code == 0
    assert list(read(tmp_path / "best.jsonl")[0]) == ["key", "text", "length", "topic", "dsel_rank", "dsel_score", "dsel_row"]


def test_rows_of_several_files_name_theirs(mine: Path, tmp_path: Path) -> None:
    rows, folder = pool_rows(), tmp_path / "pool"
    folder.mkdir()
    write(folder / "a.jsonl", rows[:30])
    write(folder / "b.parquet", [{**row, "id": f"b{n}"} for n, row in enumerate(rows[30:])])
    assert run(folder, mine, tmp_path / "best.jsonl").code == 0
    for row in read(tmp_path / "best.jsonl"):
        assert row["text"] == rows[row["dsel_row"]]["text"]
        assert row["dsel_file"].endswith("a.jsonl" if row["dsel_row"] < 30 else "b.parquet")
        assert (row["id"] is None) == (row["dsel_row"] < 30)


def test_a_selector_that_needs_the_pool_as_a_whole(pool: Path, mine: Path, tmp_path: Path, package: Callable[[str, str], str]) -> None:
    """A stream refuses it, and says what to type; that works."""
    lines = (
        "from dsel.selector.by_score import ByScore\n"
        "class Whole:\n"
        "    def __init__(self, reduce, keep, temperature):\n"
        "        pass\n"
        "    def select(self, source, target, budget, context):\n"
        "        return ByScore().select(source, target, budget, context)\n"
    )
    mine_own = [f"selector._target_={package('wholepkg', lines)}.Whole", "allow=[wholepkg.]"]
    error = run(pool, mine, tmp_path / "best.jsonl", *mine_own).error
    said, _, typed = error.partition("read all into memory: ")
    assert said.startswith("selector Whole: cannot choose from a stream; take selector=by_score, or")
    assert run(pool, mine, tmp_path / "best.jsonl", *mine_own, *typed.split()).code == 0
    assert len(read(tmp_path / "best.jsonl")) == 5


def test_an_output_may_be_a_source_again(pool: Path, mine: Path, tmp_path: Path) -> None:
    assert run(pool, mine, tmp_path / "first.parquet", "budget.units=20").code == 0
    assert run(tmp_path / "first.parquet", mine, tmp_path / "second.parquet").code == 0
    assert list(read(tmp_path / "second.parquet")[0]) == ["key", "text", "length", "topic", "dsel_rank", "dsel_score", "dsel_row"]


def test_the_same_command_again(pool: Path, mine: Path, tmp_path: Path) -> None:
    output = tmp_path / "best.parquet"
    assert run(pool, mine, output).code == 0
    first = output.read_bytes()
    again = run(pool, mine, output)
    assert "exists already; delete it, give another name, or set overwrite=true" in again.error
    output.unlink()
    assert f"{tmp_path / 'best.json'} exists already" in run(pool, mine, output).error  # it may be a file of the user's
    replaced = run(pool, mine, output, "overwrite=true")
    assert replaced.code == 0
    assert "score      reused" in replaced.out
    assert output.read_bytes() == first


@pytest.mark.parametrize(
    ("name", "content", "answer"),
    [
        ("absent.jsonl", None, "no such file or folder"),
        ("pool.xlsx", b"x", "unknown extension '.xlsx'"),
        ("pool.jsonl", b'{"text": "a"}\n{"text": \n', "pool.jsonl:2: broken JSON"),
        ("pool.jsonl", b'{"txt": "a"}\n', "no column 'text' (columns: txt); set data.text_column="),
        ("pool.jsonl", NUMBERS, "pool.jsonl:1: 'text' is 3, a int and not a string"),
        ("pool.jsonl", b"", "the file is empty"),
        ("pool.jsonl", b'{"text": "a"}\n{"text": " "}\n', "pool.jsonl:2: 'text' is empty"),
        ("pool.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', "pool.jsonl:2: invalid UTF-8"),
        ("pool.csv", b"text,n\na,1\nb\n", "pool.csv:3"),
        ("pool.parquet", b"PAR1 not really", "pool.parquet"),
    ],
)
@pytest.mark.parametrize("side", ["source", "target"])
def test_bad_files(side: str, name: str, content: bytes | None, answer: str, pool: Path, mine: Path, tmp_path: Path) -> None:
    given = {"source": pool, "target": mine, side: tmp_path / "bad" / name}
    given[side].parent.mkdir()
    if content is not None:
        given[side].write_bytes(content)
    if side == "target" and content == NUMBERS:
        answer = "column 'text' holds int64, not strings; set data.text_column="  # the target is read whole, types and all
    assert answer in run(given["source"], given["target"], tmp_path / "best.jsonl").error
    assert not (tmp_path / "best.jsonl").exists()


def test_bad_rows_may_be_skipped(mine: Path, tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in pool_rows()]
    source = tmp_path / "pool.jsonl"
    source.write_bytes("\n".join([*lines[:9], '{"text": ', *lines[9:], '{"text": ""}', '{"text": 7}']).encode())
    assert run(source, mine, tmp_path / "best.jsonl", "data.on_bad_row=skip").code == 0
    record = json.loads((tmp_path / "best.json").read_text())
    assert record["read"]["source"] == len(lines) + 3
    assert record["dropped"]["source"] == {"broken_json": 1, "not_a_string": 1, "empty": 1}
    assert {line.split(" ")[0].rpartition(":")[2] for line in record["listed"]} == {"10", str(len(lines) + 2), str(len(lines) + 3)}
    for row in read(tmp_path / "best.jsonl"):
        assert json.loads(source.read_text().splitlines()[row["dsel_row"]])["text"] == row["text"]


@pytest.mark.parametrize(
    ("output", "more", "answer"),
    [
        ("best.xlsx", [], "best.xlsx: the extension must be one of .parquet, .jsonl, .csv"),
        ("pool.jsonl/best.csv", [], "pool.jsonl is not a folder"),
        ("best.jsonl", ["budget.units=61"], "budget.units=61 is over the pool's size of 60 units"),
        ("best.jsonl", ["budget.units=2", "budget.tokens=9"], "budget: give exactly one of units, fraction, tokens; got budget.units=2"),
        ("best.jsonl", ["budget.tokens=9999999", *TINY], "budget.tokens=9999999 is over the pool's size of"),
    ],
)  # fmt: skip
def test_bad_outputs_and_budgets(output: str, more: list[str], answer: str, pool: Path, mine: Path, tmp_path: Path) -> None:
    assert answer in run(pool, mine, tmp_path / output, *more).error
    assert not (tmp_path / "best.jsonl").exists()


def test_a_budget_in_tokens(pool: Path, mine: Path, tmp_path: Path) -> None:
    assert run(pool, mine, tmp_path / "best.jsonl", "budget.tokens=300", *TINY).code == 0
    assert 1 <= len(read(tmp_path / "best.jsonl")) < 60


def test_a_csv_cannot_hold_lists(mine: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "pool.jsonl", [{**row, "tags": ["a"]} for row in pool_rows()])
    assert "write .parquet or .jsonl instead" in run(source, mine, tmp_path / "best.csv").error
    assert not (tmp_path / "best.csv").exists()


def test_scores_that_are_not_finite(pool: Path, mine: Path, tmp_path: Path, package: Callable[[str, str], str]) -> None:
    lines = (
        "import numpy as np\n"
        "class Nan:\n"
        "    reads = ('text',)\n"
        "    def fit(self, source, target, context):\n"
        "        return lambda batch: np.where(np.arange(len(batch)) == 2, np.nan, 1.0).astype(np.float32)[:, None]\n"
    )
    mine_own = [f"scorer._target_={package('badpkg', lines)}.Nan", "allow=[badpkg.]"]
    answer = run(pool, mine, tmp_path / "best.jsonl", *mine_own, scorer="random")
    assert answer.error.startswith(f"{pool}: 1 scores are not finite; first: row 2 from 0, id ")


@skip_for_root()
def test_a_folder_that_may_not_be_written(pool: Path, mine: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    assert "is not writable; give another one" in run(pool, mine, tmp_path / "locked" / "best.csv").error


def test_a_folder_that_cannot_be_made(pool: Path, mine: Path) -> None:
    assert "output=/proc/none/best.csv: cannot be written" in run(pool, mine, "/proc/none/best.csv").error


def test_a_disk_that_fills_up_leaves_no_part(pool: Path, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: str) -> None:
        Path(target).write_bytes(b"a part")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))

    folder = tmp_path / "here"
    monkeypatch.setattr(shutil, "copyfile", full)
    error = run(pool, mine, folder / "best.parquet").error
    assert error.startswith(f"output={folder / 'best.parquet'}: cannot be written (No space left on device)")
    assert list(folder.iterdir()) == []
    monkeypatch.undo()
    again = run(pool, mine, folder / "best.parquet")
    assert again.code == 0
    assert "score      reused" in again.out


@pytest.mark.parametrize("step", ["write_table", "write_ndjson", "scores"])
def test_a_disk_that_fills_up_while_rows_are_put_in_order(
    pool: Path, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Polars gives its errors no number."""
    from dsel.phase import scan, write

    def full(*arguments: Any) -> None:
        words = os.strerror(errno.ENOSPC)
        raise OSError(f"{words} (os error 28)") if step == "write_ndjson" else OSError(errno.ENOSPC, words)

    module, name = {"write_table": (write, step), "write_ndjson": (pl.DataFrame, step), "scores": (scan, "write_table")}[step]
    monkeypatch.setattr(module, name, full)
    assert "disk full while writing" in run(pool, mine, tmp_path / "best.jsonl").error
    assert not (tmp_path / "best.jsonl").exists()
    assert not list((tmp_path / "outputs").rglob("*.tmp"))
    monkeypatch.undo()
    again = run(pool, mine, tmp_path / "best.jsonl")
    assert again.code == 0
    assert ("score      reused" in again.out) == (step != "scores")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB, where one may be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = os.geteuid() == 0 and not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    ).returncode  # fmt: skip
    if not mounted:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(pool: Path, mine: Path, small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(b"x" * 60_000)
    assert "No space left on device" in run(pool, mine, small_disk / "best.jsonl", "budget.units=50").error
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]


@pytest.mark.parametrize("more", [[], [*TINY, *TINY_CDS]], ids=["domain_classifier", "cds"])
def test_artifacts_on_a_full_disk(pool: Path, mine: Path, tmp_path: Path, small_disk: Path, more: list[str]) -> None:
    scorer, outputs = "cds" if more else "domain_classifier", f"paths.outputs={small_disk}"
    (small_disk / "ballast").write_bytes(b"x" * 20_000)
    error = run(pool, mine, tmp_path / "best.jsonl", outputs, *more, scorer=scorer).error
    assert "disk full" in error
    assert not [path for path in small_disk.glob("artifacts/*-*") if not (path / "done.json").is_file() and path.is_dir()]


def test_an_interrupted_run_leaves_no_output(pool: Path, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "here"
    monkeypatch.setattr(shutil, "copyfile", interrupted)
    assert run(pool, mine, folder / "best.parquet").code == 130
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("stop", ["write_atomic", "total_cost"])
def test_a_run_that_was_stopped_while_it_placed_its_output_goes_on(
    pool: Path, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    """The record is there, or both files are, and what a killed process leaves: the same command takes them for its own."""
    import dsel.phase.export
    import dsel.result

    module: Any = {"write_atomic": dsel.phase.export, "total_cost": dsel.result}[stop]
    work, folder = getattr(module, stop), tmp_path / "here"

    def stopped(*arguments: Any) -> None:
        work(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, stop, stopped)
    assert run(pool, mine, folder / "best.parquet").code == 130
    assert sorted(path.name for path in folder.iterdir()) == ["best.json", *(["best.parquet"] if stop == "total_cost" else [])]
    for part in (".best.parquet.x1y2z3.part", ".best.json.x1y2z3.part"):
        (folder / part).write_bytes(b"a part")
    monkeypatch.undo()
    assert "exists already" in run(pool, mine, folder / "best.parquet", "seed=1").error  # another run's, to that one
    again = run(pool, mine, folder / "best.parquet")
    assert (again.code, sorted(path.name for path in folder.iterdir())) == (0, ["best.json", "best.parquet"])
    assert "exists already" in run(pool, mine, folder / "best.parquet").error


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("scorer", ["domain_classifier", "cds"])
def test_a_handful_of_target_rows(count: int, scorer: str, pool: Path, tmp_path: Path) -> None:
    """Too few to hold any out: they work all the same."""
    few = write(tmp_path / "few.jsonl", [{"text": row["text"]} for row in documents(TARGET_DOMAIN, count)])
    answer = run(pool, few, tmp_path / "best.jsonl", *([*TINY, *TINY_CDS] if scorer == "cds" else []), scorer=scorer)
    assert answer.code == 0, answer.error
    assert len(read(tmp_path / "best.jsonl")) == 5


def test_who_trains_nothing_waits_for_no_torch(pool: Path, mine: Path, tmp_path: Path) -> None:
    arguments = [f"source={pool}", f"target={mine}", f"output={tmp_path / 'best.jsonl'}", "scorer=dsir", "budget.units=5"]
    code = (
        "import sys; sys.argv = ['dsel', 'experiment=select', *sys.argv[1:]]\n"
        "from dsel.run import main; main()\n"
        "print('heavy:', sorted({'torch', 'pytorch_lightning', 'transformers', 'sklearn'} & set(sys.modules)))"
    )
    environment = {**os.environ, "DSEL_OUTPUTS": str(tmp_path / "outputs")}
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"
