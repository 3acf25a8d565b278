"""The report of an attribution: what is read, the lines, the page and the table, from files that are written by hand."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from omegaconf import OmegaConf

from dsel.error import InputError
from dsel.report.__main__ import main
from dsel.report.attribution import Attribution, read_attribution, to_table
from dsel.report.attribution_page import CHARACTERS, LEVELS, SHOWN, build_attribution, lines, number, render, shorten
from dsel.report.callback import Report
from dsel.report.single import build_single

NASTY = "<script>alert('x')</script> & [bold]"
EXAMPLES: dict[str, Any] = {
    "query": pl.Int32, "sign": pl.String, "rank": pl.Int32, "unit": pl.Int64, "score": pl.Float64, "tokens": pl.List(pl.String),
    "contributions": pl.List(pl.Float32), "id": pl.String, "dsel_row": pl.Int64, "domain": pl.String, "text": pl.String,
}  # fmt: skip
QUERIES: list[dict[str, Any]] = [
    {"id": "q0", "domain": "x", "text": "a b", "loss_pretrain": 3.25, "loss_finetune": 1.5, "tokens": ["a", " b"], "losses": [0.2, 2.8],
     "expected": ["a", " <i>"]},
    {"id": "q1", "domain": "x", "text": "long c", "loss_pretrain": 2.0, "loss_finetune": 2.5, "tokens": ["long", " c"],
     "losses": [11.0, 0.6], "expected": ["The", " c"]},
]  # fmt: skip


def example(query: int, sign: str, rank: int, score: float, **changed: Any) -> dict[str, Any]:
    """A row of examples.parquet."""
    unit = 10 * query + rank
    return {
        "query": query, "sign": sign, "rank": rank, "unit": unit, "score": score, "tokens": None, "contributions": None,
        "id": f"{sign}-{unit}", "dsel_row": unit, "domain": "docs", "text": f"text of {sign} {unit}",
    } | changed  # fmt: skip


def examples() -> list[dict[str, Any]]:
    """Of two queries, four of each sign, not in the order of ranks."""
    made = [example(query, sign, rank, (5.0 - rank) * (1 if sign == "helpful" else -1))
            for query in range(2) for rank in (4, 1, 3, 2) for sign in ("harmful", "helpful")]  # fmt: skip
    made[3] |= {"tokens": ["t", " u", " v", " w"], "contributions": [0.5, -2.0, 0.01, 0.0]}
    return made


def write_run(
    home: Path,
    pretraining: list[dict[str, Any]] | None = None,
    queries: list[dict[str, Any]] = QUERIES,
    groups: list[dict[str, Any]] | None = None,
    finetuning: list[dict[str, Any]] | None = None,
) -> Path:
    """A run's folder with its artifacts beside it."""
    folder, artifacts = home / "run", {"corpus": "../corpus", "tokenizer": "../gone"}
    folder.mkdir(parents=True)
    for name, rows in (("pretraining", examples() if pretraining is None else pretraining), ("finetuning", finetuning)):
        if rows is not None:
            (home / name).mkdir()
            schema = EXAMPLES | ({"src": pl.String} if "src" in rows[0] else {})
            pl.DataFrame(rows, schema=schema).write_parquet(home / name / "examples.parquet")
            pl.DataFrame(queries).write_parquet(home / name / "queries.parquet")
            artifacts[name] = f"../{name}"
    if groups is not None:
        pl.DataFrame(groups).write_parquet(home / "pretraining" / "groups.parquet")
    record = {
        "name": "attribute", "label": "two-phase EK-FAC", "seed": 0, "overrides": {}, "metrics": {}, "artifacts": artifacts,
        "cost": {"device": "cpu <x>", "phases": {"pretraining": {"seconds": 41.66, "reused": False}, "finetuning": {"reused": True}}},
        "config": {"scorer": {"_target_": "dsel.scorer.multi_stage_influence.MultiStageInfluence"}, "query": "</pre><b>"},
        "versions": {"torch": "2"}, "git_commit": "0",
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(record))
    return folder


def read(folder: Path) -> Attribution:
    """What must be there."""
    found = read_attribution(folder)
    assert found is not None
    return found


class Page(HTMLParser):
    """All elements of a page: name, attributes, and the text in them that is in none of their own."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin one."""
        self.found.append((tag, dict(attrs), []))
        if tag != "meta":
            self.open.append(self.found[-1])

    def handle_endtag(self, tag: str) -> None:
        """End it. Errors: another one is open."""
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        """Belongs to what is open."""
        if self.open:
            self.open[-1][2].append(data)

    def all(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        """Attributes and text of all of a name."""
        return [(attrs, "".join(text)) for name, attrs, text in self.found if name == tag]


def tokens_of(page: str) -> dict[str, tuple[str | None, str | None]]:
    """Class and title of the tokens, by their text."""
    return {text: (attrs.get("class"), attrs["title"]) for attrs, text in Page(page).all("span") if "title" in attrs}


def test_examples_are_read_by_query_sign_and_rank(tmp_path: Path) -> None:
    other = [example(0, "helpful", 1, 9.0, id="other")]
    found = read(write_run(tmp_path, finetuning=other))
    assert [side.name for side in found.sides] == ["pretraining", "finetuning"]
    assert found.losses == ["pretrain", "finetune"]
    assert found.queries["id"].to_list() == ["q0", "q1"]
    first, second = found.sides
    assert [row["id"] for row in first.of(1, "helpful")] == [f"helpful-{unit}" for unit in (11, 12, 13, 14)]
    assert [row["score"] for row in first.of(0, "harmful")] == [-4.0, -3.0, -2.0, -1.0]
    assert [row["id"] for row in second.of(0, "helpful")] == ["other"]
    assert second.of(0, "harmful") == second.of(1, "helpful") == []
    assert first.groups_of(0) == []


def test_groups_come_highest_first(tmp_path: Path) -> None:
    rows = [{"query": query, "group": name, "units": units, "score": score * (1 - 2 * query)}
            for query in range(2) for name, units, score in (("a", 3, -4.0), ("<b>", 7, 8.0), ("c", 1, 0.0))]  # fmt: skip
    found = read(write_run(tmp_path, groups=rows))
    assert [row["group"] for row in found.sides[0].groups_of(0)] == ["<b>", "c", "a"]
    assert [row["group"] for row in found.sides[0].groups_of(1)] == ["a", "c", "<b>"]
    page = render(found)
    assert page.count("<summary>by domain</summary>") == 2
    assert '<td class="left">&lt;b&gt;</td><td>7</td><td>+8</td>' in page
    assert '<i style="left: 50.00%; width: 50.00%"></i>' in page  # the widest, to the right of the middle
    assert '<i class="harms" style="left: 25.00%; width: 25.00%"></i>' in page  # half of it, to the left
    assert '<i style="left: 50.00%; width: 0.00%"></i>' in page
    assert "by domain" not in render(read(write_run(tmp_path / "none")))


@pytest.mark.parametrize("artifacts", [{}, {"pretrain": "../pretrain"}, {"attribute": "../nowhere"}])
def test_other_runs_have_no_attribution(tmp_path: Path, artifacts: dict[str, str]) -> None:
    assert read_attribution(tmp_path) is None
    (tmp_path / "run").mkdir()
    (tmp_path / "pretrain").mkdir()
    (tmp_path / "run" / "result.json").write_text(json.dumps({"name": "x", "label": "y", "seed": 0, "artifacts": artifacts}))
    assert read_attribution(tmp_path / "run") is None
    assert build_single(tmp_path / "run", quiet=True) is None
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_run_from_before_it_named_its_artifacts(tmp_path: Path) -> None:
    for record in ({"name": "x"}, [1]):
        (tmp_path / "result.json").write_text(json.dumps(record))
        assert read_attribution(tmp_path) is None


@pytest.mark.parametrize("name", ["examples", "queries", "groups"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path, groups=[{"query": 0, "group": "a", "units": 1, "score": 1.0}])
    broken = tmp_path / "pretraining" / f"{name}.parquet"
    broken.write_bytes(b"no parquet")
    with pytest.raises(InputError, match=rf"{name}\.parquet: cannot be read \(.+\); run the attribution again$") as caught:
        read_attribution(folder)
    assert "\n" not in str(caught.value)
    assert main([str(folder)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    if name == "queries":
        broken.unlink()
        with pytest.raises(InputError, match=r"queries\.parquet: cannot be read"):
            read_attribution(folder)


@pytest.mark.parametrize("name", ["examples", "queries", "groups"])
def test_a_file_with_other_columns_is_named(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path, groups=[{"query": 0, "group": "a", "units": 1, "score": 1.0}])
    pl.DataFrame({"source": ["books"]}).write_parquet(tmp_path / "pretraining" / f"{name}.parquet")
    with pytest.raises(InputError, match=rf"{name}\.parquet: .*run the attribution again"):
        build_single(folder, quiet=True)
    assert main([str(folder)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_result_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(InputError, match=r"result\.json"):
        read_attribution(tmp_path)


@pytest.mark.parametrize(
    ("value", "want"),
    [(0.0, "+0"), (1.5, "+1.5"), (-1.5, "−1.5"), (-0.000012345, "−1.23e−05"), (123456.0, "+1.23e+05"), (0.12345, "+0.123")],
)
def test_scores_have_signs(value: float, want: str) -> None:
    assert number(value) == want


def test_long_texts_are_one_line(tmp_path: Path) -> None:
    assert shorten(" a\n\tb ") == "a b"
    assert shorten("x" * CHARACTERS) == "x" * CHARACTERS
    assert shorten("x" * (CHARACTERS + 1)) == "x" * (CHARACTERS - 1) + "…"


def test_the_lines_of_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = examples()
    changed[2]["text"] = "a text [red] of\nlines " + "x" * 200
    folder = write_run(tmp_path, changed, finetuning=[example(1, "harmful", 1, -0.5)])
    found = lines(read(folder))
    assert found[:2] == ["query q0: a b", "  loss, nats a token: pretrain 3.250, finetune 1.500"]
    assert found[2:5] == [f"  pretraining helpful {rank}  +{5 - rank}  text of helpful {rank}" for rank in range(1, SHOWN + 1)]
    assert found[5].startswith("  pretraining harmful 1  −4  a text [red] of lines xxx")
    assert found[6:8] == [f"  pretraining harmful {rank}  −{5 - rank}  text of harmful {rank}" for rank in (2, 3)]
    assert found[8] == "query q1: long c"
    assert found[-1] == "  finetuning harmful 1  −0.5  text of harmful 11"
    assert len(found) == 2 * (2 + 2 * SHOWN) + 1
    page = build_single(folder)
    shown = capsys.readouterr().out.splitlines()
    assert shown[:5] == found[:5]
    assert "[red]" in shown[5]  # no markup of the console
    assert [len(line) <= 120 for line in shown[:-1]] == [True] * len(found)
    assert shown[-1] == f"report: {page}"


def test_the_page_names_every_query_and_example(tmp_path: Path) -> None:
    other = example(0, "helpful", 1, 9.0, id="other", domain=None, text="another")
    found = read(write_run(tmp_path, finetuning=[other]))
    text = build_attribution(found, quiet=True).read_text(encoding="utf-8")
    page = Page(text)
    assert [heading for _, heading in page.all("h2")] == ["q0", "q1", "How it came about"]
    assert [heading for _, heading in page.all("h3")] == ["pretraining examples", "finetuning examples"] * 2
    assert len(page.all("article")) == 2 * 8 + 1
    for row in examples():
        assert f"<span>row {row['dsel_row']}, {row['id']}</span>" in text
        assert (f'<div class="text">{row["text"]}</div>' in text) == (row["tokens"] is None)
    assert "<span>row 1, other</span>" in text
    assert "None" not in text
    assert "mean loss, nats a token: pretrain 3.250, finetune 1.500</p>" in text
    assert (
        text.index("help most") < text.index("helpful-1<") < text.index("helpful-4<") < text.index("harm most") < text.index("harmful-1<")
    )
    assert "MultiStageInfluence" in text
    assert "<dt>pretraining</dt><dd>41.7 s</dd><dt>finetuning</dt><dd>reused</dd>" in text


def test_the_page_escapes_what_users_wrote_and_asks_for_nothing(tmp_path: Path) -> None:
    changed = [row | {"id": NASTY, "text": NASTY, "domain": NASTY} for row in examples()]
    changed[0] |= {"tokens": [NASTY], "contributions": [1.0]}
    asked = [{**row, "id": NASTY, "text": NASTY, "tokens": [NASTY, NASTY], "expected": ['"><script>', "b"]} for row in QUERIES]
    groups = [{"query": 0, "group": NASTY, "units": 1, "score": 1.0}]
    text = render(read(write_run(tmp_path, changed, asked, groups)))
    page = Page(text)
    assert {tag for tag, _, _ in page.found} <= {
        "html", "head", "meta", "title", "style", "body", "div", "header", "main", "section", "article", "footer", "h1", "h2", "h3", "p",
        "b", "i", "span", "details", "summary", "table", "thead", "tbody", "tr", "th", "td", "dl", "dt", "dd", "pre",
    }  # fmt: skip
    assert all(heading == NASTY for _, heading in page.all("h2")[:2])
    assert "[bold]" in text
    assert "</pre><b>" not in text  # the configuration is the user's as well
    assert "cpu &lt;x&gt;" in text
    names = {name for _, attrs, _ in page.found for name in attrs}
    assert names <= {"lang", "charset", "name", "content", "http-equiv", "class", "id", "title", "style"}
    assert "default-src 'none'; style-src 'unsafe-inline'" in text
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import|https?:", style)


def test_colours_are_of_the_example_s_own_largest(tmp_path: Path) -> None:
    found = tokens_of(render(read(write_run(tmp_path))))
    assert found["t"] == (f"h{LEVELS // 4}", "+0.5")
    assert found[" u"] == (f"x{LEVELS}", "−2")
    assert found[" v"] == (None, "+0.01")  # too small to be seen
    assert found[" w"] == (None, "+0")


def test_colours_of_a_query_are_its_losses(tmp_path: Path) -> None:
    """A shade a nat, and no more than there are."""
    found = tokens_of(render(read(write_run(tmp_path))))
    assert found["a"] == ("x0", "0.20 nats; expected 'a'")
    assert found[" b"] == ("x3", "2.80 nats; expected ' <i>'")
    assert found["long"] == (f"x{LEVELS}", "11.00 nats; expected 'The'")
    assert found[" c"] == ("x1", "0.60 nats; expected ' c'")
    style = render(read(write_run(tmp_path / "b"))).partition("<style>")[2].partition("</style>")[0]
    for kind in "hx":
        shades = [float(shade) for shade in re.findall(rf"\.{kind}\d {{ background: rgba\([\d, ]+, ([\d.]+)\)", style)]
        assert shades == sorted(set(shades))
        assert len(shades) == LEVELS


def test_an_example_whose_tokens_add_nothing_is_plain(tmp_path: Path) -> None:
    rows = [example(0, "helpful", 1, 0.0, tokens=["no", "thing"], contributions=[0.0, 0.0])]
    found = tokens_of(render(read(write_run(tmp_path, rows))))
    assert found["no"] == found["thing"] == (None, "+0")


def test_questions_are_shown_beside_the_tokens_of_answers(tmp_path: Path) -> None:
    """Of pairs only answers are predicted."""
    asked = [{**QUERIES[0], "text": "is 3 odd?\tyes", "src": "is 3 odd?", "tokens": ["yes", "<end>"]}, QUERIES[1]]
    answer = example(0, "helpful", 1, 1.0, text="is 5 odd?\tyes", tokens=["yes", "<end>"], contributions=[0.4, 0.6])
    rows = [{**answer, "src": "is 5 odd?"}]
    page = render(read(write_run(tmp_path, rows, asked)))
    assert tokens_of(page).keys() >= {"yes", "<end>"}
    assert "is 3 odd?" in page
    assert "is 5 odd?" in page


def test_queries_under_no_model_are_shown_as_texts(tmp_path: Path) -> None:
    """Of a score that looks at none."""
    asked = [{"id": "q0", "text": "only <text>"}, {"id": "q1", "text": "more"}]
    found = read(write_run(tmp_path, queries=asked))
    assert found.losses == []
    page = render(found)
    assert '<div class="text">only &lt;text&gt;</div>' in page
    assert lines(found)[0] == "query q0: only <text>"


def test_the_table_holds_all_examples_of_all_sides(tmp_path: Path) -> None:
    folder = write_run(tmp_path, finetuning=[example(1, "helpful", 1, 9.0)])
    build_attribution(read(folder), quiet=True)
    table = pl.read_parquet(folder / "attributions.parquet")
    assert table.columns[:7] == ["query", "query_id", "query_text", "side", "sign", "rank", "score"]
    assert set(table.columns[7:]) == set(EXAMPLES) - {"query", "sign", "rank", "score"}
    assert len(table) == 2 * 8 + 1
    assert table.filter(pl.col("side") == "finetuning").select("query", "query_id", "query_text", "score", "id").rows() == [
        (1, "q1", "long c", 9.0, "helpful-11")
    ]
    assert table.filter(pl.col("tokens").is_not_null())["contributions"].to_list() == [pytest.approx([0.5, -2.0, 0.01, 0.0])]
    assert to_table(read(folder)).equals(table)


def test_sides_may_have_other_columns(tmp_path: Path) -> None:
    """A source knows domains where the fine-tuning data know none."""
    folder = write_run(tmp_path, finetuning=[example(0, "helpful", 1, 9.0)])
    path = tmp_path / "finetuning" / "examples.parquet"
    pl.read_parquet(path).drop("domain").write_parquet(path)
    found = read(folder)
    assert to_table(found).filter(pl.col("side") == "finetuning")["domain"].to_list() == [None]
    assert "<span></span><span>row 1, helpful-1</span>" in render(found)


def test_the_command_and_the_callback_find_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path)
    assert main([str(folder)]) == 0
    assert "query q0: a b" in capsys.readouterr().out
    for name in ("report.html", "attributions.parquet"):
        (folder / name).unlink()
    config = OmegaConf.create({"hydra": {"run": {"dir": str(folder)}}})
    Report().on_run_end(config, job_return=SimpleNamespace(_return_value=1.0))
    assert "query q0: a b" in capsys.readouterr().out
    assert {"report.html", "attributions.parquet"} <= {path.name for path in folder.iterdir()}
