"""The command line: what a user sees, above all when something is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command import TINY, dsel, spawn, without_training
from made_up_corpus import write_files

from dsel import cli

HEAVY = ("torch", "transformers", "pytorch_lightning", "pandas", "polars", "pyarrow", "sklearn", "datasets")
LIGHT_RUN = f"""
import sys
sys.argv = ["dsel", *sys.argv[1:]]
from dsel.run import main
try:
    main()
except SystemExit:
    pass
print("HEAVY", [name for name in {HEAVY!r} if name in sys.modules])
"""


@pytest.fixture
def select(tmp_path: Path) -> list[str]:
    """A selection that works, but for its budget."""
    source, target = write_files(tmp_path, 20, 30)
    files = [f"source={source}", f"target={target}", f"output={tmp_path / 'best.jsonl'}"]
    return ["experiment=select", "scorer=domain_classifier", *files]


@pytest.fixture
def sweep(tmp_path: Path) -> list[str]:
    """A sweep without training."""
    return without_training(tmp_path)


def test_alone_it_prints_the_jobs_with_a_command_each() -> None:
    out = dsel().out
    for path in (cli.CONF / "experiment").glob("*.yaml"):
        assert f"\n      dsel experiment={path.stem}" in out
    assert "python -m dsel.report" in out


@pytest.mark.parametrize("arguments", [[], ["--help"], ["scorer.num_stepz=1"], ["experiment=demo", "--cfg", "job"]], ids=" ".join)
def test_answers_at_once_because_nothing_heavy_is_imported(arguments: list[str], tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT_RUN, *arguments], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "HEAVY []"
    assert len(done.stdout.splitlines()) > 1 or done.stderr.startswith("error: ")


def test_help_lists_groups_options_and_keys() -> None:
    out = dsel("--help").out
    assert f"scorer: {', '.join(sorted(path.stem for path in (cli.CONF / 'scorer').glob('*.yaml')))}" in out
    assert "curvature: conjugate_gradient, ekfac, explicit, identity, kfac, lissa" in out
    assert "tokens_per_batch: 2048" in out


@pytest.mark.parametrize(
    ("wrong", "answer"),
    [
        ("scorer.num_stepz=1", "scorer.num_stepz: no such key, did you mean scorer.num_steps?"),
        ("optimiser=adamw", "optimiser: no such key, did you mean optimizer?"),
        ("bugdet.units=3", "bugdet.units: no such key, did you mean budget.units?"),
        ("lr=3", "lr: no such key, did you mean optimizer.lr?"),
        ("scorer=cdss", "scorer=cdss: no such option, did you mean cds?; there are bm25, cds, combination, complementary_gradient"),
        (
            "experiment=dmeo",
            "experiment=dmeo: no such option, did you mean demo?; there are attribute, budget, complementarity, complementarity_mt",
        ),
        ("trainer=cpu", "trainer=cpu: no such option, did you mean gpu?; there are ddp, debug, default, fsdp, gpu"),
        ("+sourc=1", "sourc: no such key, did you mean source?"),
        ("++scorr=cds", "scorr: no such key, did you mean scorer?"),
        ("nonsense", "Error parsing override 'nonsense'"),
    ],
)
def test_a_mistake_in_a_key_or_an_option(wrong: str, answer: str) -> None:
    assert dsel(wrong).error.startswith(answer)


def test_a_mistake_in_an_option_of_an_experiment() -> None:
    assert dsel("experiment=demo", "arm=cdss").error.startswith(
        "arm=cdss: no such option, did you mean cds?; there are add_clean, all_tasks, attribute_bm25, attribute_cg,"
    )
    assert dsel("experiment=demo", "phases.pretrain.untill=1").error.startswith("phases.pretrain.untill: no such key, did you mean phases.")


@pytest.mark.parametrize(
    ("wrong", "answer"),
    [
        ("budget.units=3 +scorer.typo=1", "scorer.typo: no such key; DomainClassifier takes max_ngram, num_features"),
        ("budget.units=3 +scorer.max_ngramm=1", "scorer.max_ngramm: no such key; did you mean max_ngram?"),
        ("budget.units=3 scorer.max_ngram=abc", "scorer.max_ngram='abc': must be a whole number"),
        ("budget.units=3 scorer.max_ngram=1.5", "scorer.max_ngram=1.5: must be a whole number"),
        ("budget.units=3 data.on_bad_row=drop", "data.on_bad_row='drop': must be one of fail, skip"),
        ("budget.units=3 optimizer.lr=abc", "optimizer.lr='abc': must be a number"),
        ("budget.units=3 +optimizer.typo=1", "optimizer.typo: no such key"),
        ("budget.units=abc", "budget.units='abc': must be a whole number or null"),
        ("budget.units=3 budget.fraction=0.1", "budget: give exactly one of units, fraction, tokens; got budget.units=3, budget.f"),
        ("budget.units=null", "budget: give exactly one of units, fraction, tokens; got none"),
        ("budget.units=-1", "budget.units=-1: must be above 0"),
        ("budget.fraction=1.5", "budget.fraction=1.5: must be above 0 and at most 1"),
        ("budget.units=61", "budget.units=61 is over the pool's size of 60 units; set budget.units to 60 or less"),
        ("budget.units=3 pipeline=[score,selct]", "pipeline: there is no phase 'selct'; phases are pretrain, score, select, quality"),
        ("budget.units=3 pipeline=[]", "pipeline is empty; choose an experiment"),
        ("budget.units=3 output=null", "output: is needed and not given"),
        ("budget.units=3 source=null", "source: is needed and not given"),
        ("budget.units=3 scorer._target_=os.system", "scorer._target_=os.system: not allowed; it must begin with one of dsel."),
        ("budget.units=3 scorer._target_=dsel.scorer.nope.No", "scorer._target_=dsel.scorer.nope.No: cannot be imported"),
        ("budget.units=3 pipeline=[pretrain] trainer=gpu", "trainer: No supported gpu backend found!"),
        ("budget.units=3 pipeline=[pretrain] trainer=fsdp", "trainer: No supported gpu backend found!"),
        ("budget.units=3 pipeline=[pretrain] trainer=fsdp trainer.accelerator=cpu", "trainer: The strategy `fsdp` requires a GPU accel"),
        ("budget.units=3 pipeline=[pretrain] trainer=ddp trainer.devices=2 phases.pretrain.batch_size=5", "batch_size=5: cannot be "),
    ],
)  # fmt: skip
def test_a_mistake_in_a_value(select: list[str], tmp_path: Path, wrong: str, answer: str) -> None:
    if "trainer=" in wrong:
        import torch

        if torch.cuda.is_available():
            pytest.skip("here is a GPU")
        select += TINY[:-1]
    assert dsel(*select, *wrong.split(), outputs=tmp_path).error.startswith(answer)
    assert not (tmp_path / "best.jsonl").exists()


def test_a_package_of_the_users_own(select: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mypkg").mkdir()
    (tmp_path / "mypkg" / "length.py").write_text(
        "import numpy as np\n"
        "class Fitted:\n"
        "    def __call__(self, batch):\n"
        "        return np.array([[len(text)] for text in batch['text'].to_pylist()], np.float32)\n"
        "class Length:\n"
        "    reads = ('text',)\n"
        "    def fit(self, source, target, context):\n"
        "        return Fitted()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    mine = ["budget.units=3", "scorer=random", "scorer._target_=mypkg.length.Length"]
    assert "to trust your own package, add its prefix to the list `allow`" in dsel(*select, *mine, outputs=tmp_path).error
    assert dsel(*select, *mine, "allow=[mypkg.]", outputs=tmp_path).code == 0
    rows = [json.loads(line) for line in (tmp_path / "best.jsonl").read_text().splitlines()]
    lengths = [len(json.loads(line)["text"]) for line in (tmp_path / "source.jsonl").read_text().splitlines()]
    assert [row["dsel_score"] for row in rows] == sorted(lengths, reverse=True)[:3]


def test_one_line_on_stderr_and_a_traceback_on_request(select: list[str], tmp_path: Path) -> None:
    assert spawn(*select, "budget.units=-1", outputs=tmp_path).error.startswith("budget.units=-1")
    asked = spawn(*select, "budget.units=-1", outputs=tmp_path, env={"HYDRA_FULL_ERROR": "1"})
    assert asked.code == 1
    assert "Traceback" in asked.err
    assert "InputError: budget.units=-1: must be above 0" in asked.err


def test_a_mistake_of_ours_keeps_its_traceback(select: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr("dsel.scorer.domain_classifier.DomainClassifier.fit", broken)
    with pytest.raises(AssertionError, match="a bug"):
        dsel(*select, "budget.units=3", outputs=tmp_path)


def test_an_interrupted_run_says_how_to_go_on(select: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dsel.scorer.domain_classifier.DomainClassifier.fit", interrupted)
    answer = dsel(*select, "budget.units=3", outputs=tmp_path)
    assert (answer.code, answer.out.count("Traceback")) == (130, 0)
    assert answer.err == "interrupted: the same command goes on from what is finished\n"


def test_a_failed_cell_does_not_stop_the_others(sweep: list[str], tmp_path: Path) -> None:
    answer = dsel(*sweep, "arm=random", "seed=0", "budget.fraction=0.1,2,0.2", outputs=tmp_path)
    folder = tmp_path / "runs" / "demo"
    assert answer.code == 1
    assert answer.error == "failed: [budget.fraction=2]: budget.fraction=2: must be above 0 and at most 1"
    assert len(list(folder.rglob("result.json"))) == 2
    assert (folder / "report.html").is_file()
    again = dsel(*sweep, "arm=random", "seed=0", "budget.fraction=0.1,0.2", outputs=tmp_path)  # the old failure is not this sweep's
    assert (again.code, again.err) == (0, "")


def test_cells_with_one_cause_share_a_line(sweep: list[str], tmp_path: Path) -> None:
    answer = dsel(*sweep, "arm=random,domain_classifier", "seed=0", "budget.fraction=2", outputs=tmp_path)
    lines = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert answer.code == 1
    assert len(lines) == 1
    assert lines[0].startswith("error: failed: [arm=random], [arm=domain_classifier]: budget.fraction=2: must be above 0")
    assert "report: not written" in answer.err


def test_a_bug_in_a_cell_keeps_its_traceback(sweep: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr("dsel.scorer.domain_classifier.DomainClassifier.fit", broken)
    answer = dsel(*sweep, "arm=random,domain_classifier", "seed=0", outputs=tmp_path)
    assert answer.code == 1
    assert "Traceback (most recent call last)" in answer.err
    assert answer.err.splitlines()[-1].endswith("AssertionError: a bug")
    assert len(list((tmp_path / "runs" / "demo").rglob("result.json"))) == 1


def test_an_impossible_sweep_stops_before_its_first_cell(sweep: list[str], tmp_path: Path) -> None:
    assert dsel(*sweep, "arm=random,cdss", outputs=tmp_path).error.startswith("arm=cdss: no such option, did you mean cds?")
    assert not list(tmp_path.rglob("result.json"))


def test_a_mistake_beside_values_to_sweep_over() -> None:
    assert dsel("experiment=demo", "arm=cds,random", "scorer.num_stepz=1").error.startswith("scorer.num_stepz: no such key")
    assert dsel("experiment=demoo", "seed=0,1").error.startswith("experiment=demoo: no such option, did you mean demo?")
    assert dsel("seed=0,1").error == "seed=0,1: several values make a sweep; add --multirun, or give one value"


def test_run_mode_runs_one_cell_of_an_experiment(sweep: list[str], tmp_path: Path) -> None:
    answer = dsel(*sweep, "hydra.mode=RUN", "arm=random", outputs=tmp_path)
    assert (answer.code, answer.err) == (0, "")
    (result,) = tmp_path.rglob("result.json")
    assert json.loads(result.read_text())["label"] == "random"
    assert "nothing to do" in dsel(*sweep, "hydra.mode=RUN", "arm=random", outputs=tmp_path).out


@pytest.mark.parametrize(("text", "name"), [("a=1,b=x/y z", "a=1,b=x-y-z"), ("", "run")])
def test_run_names_are_file_names(text: str, name: str) -> None:
    assert cli.run_name(text) == name


def test_long_run_names_stay_apart() -> None:
    first, second = cli.run_name("x" * 300 + "a"), cli.run_name("x" * 300 + "b")
    assert len(first) < 200
    assert first != second
