"""Every experiment yaml runs end to end: a sweep of two cells on made-up files, a tiny model, a handful of steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command import TINY, TINY_CDS, Answer, dsel, spawn
from made_up_corpus import write_files, write_jsonl
from ranking_lab import RULES, TUNING, save_encoder, write_tasks

from dsel import cli

MASKS = ("examples", "loss", "plain", "random", "tokens")
EXPERIMENTS = sorted(path.stem for path in (cli.CONF / "experiment").glob("*.yaml") if path.stem not in ("select", "attribute"))
RANKINGS = {"esm": ["task_scorer=random_order,esm_logme"], "rank_tasks": [], "task_transfer": []}
EXPERIMENTS = [name for name in EXPERIMENTS if name not in RANKINGS]
PHASES = [f"phases.{name}.every=2" for name in ("pretrain", "continue", "finetune")]
WRITTEN = ["data.num_source=150", "data.num_target=60"]  # by the data module itself
DECODER = [
    "model.num_layers=1", "model.dim=16", "model.num_heads=2", "model.vocab_size=300", "model.context=24",
    "steps.total=6", "steps.finetune=4", "trainer=debug",
]  # fmt: skip
PAIRS = [*DECODER, "model.ffn_dim=32"]
MASKING = ["steps.unmasked=2", "phases.train.every=2"]
BLEU = ["phases.{}.num_beams=1", "phases.{}.max_pairs=10"]
THREE_PHASES = [*TINY, *PHASES, "split.planted=10"]  # of a language model
SMALL = {  # the others
    "complementarity_mt": [
        *WRITTEN, *PAIRS, *PHASES, "split.planted=2", *[key.format(f"bleu_{when}") for when in ("before", "after") for key in BLEU],
    ],
    "loss_masking_files": [*PAIRS, *MASKING, *[key.format("bleu") for key in BLEU]],
    "loss_masking_causal": [*WRITTEN, *DECODER, *MASKING],
    "loss_masking_lm": [*TINY[:-3], "steps.total=10", "trainer=debug", *MASKING],
}  # fmt: skip
SUMS = [
    "data.num_clean=2", "data.num_noisy=2", "data.group_size=6", "data.num_target=40", "data.num_digits=2", "steps.meta=4",
    "steps.retrain=2", "steps.total=4", "trainer=debug",
]  # fmt: skip
TASKS = [*SUMS, "model.num_layers=1", "model.dim=16", "model.vocab_size=300"]
JUDGED = ["phases.judge.num_subsets=3", "phases.judge.num_estimated=4", "phases.judge.num_repeated=1"]
SMALL |= {
    "gradex_estimate": [*TASKS, *JUDGED],
    "gradex_cost": [*[key for key in TASKS if "num_clean" not in key], *JUDGED],
    "gradex_selection": TASKS,
    "gradex_approximation": [*SUMS, "phases.approximate.num_directions=2", "phases.approximate.num_units=8", "model.vocab_size=300"],
}
SMALL["selection_size_mt"] = SMALL["complementarity_mt"]
SMALL |= {f"loss_masking{what}": [*WRITTEN, *SMALL["loss_masking_files"]] for what in ("", "_noise", "_domains", "_parts")}
ATTRIBUTED = ["phases.pretrain.every=2", "phases.finetune.every=2", "phases.attribute.num_queries=3"]
SMALL |= {
    "influence_lds": [*TINY, "split.planted=10", *ATTRIBUTED, "phases.retrain.num_sets=3", "phases.tail_patch.top=2"],
    "influence_retraining": [*TINY, "split.planted=10", *ATTRIBUTED, "phases.retrain.num_sets=3", "phases.retrain.units=3"],
    "influence_noise": [*WRITTEN, *[key for key in PAIRS if "context" not in key], "split.planted=5", *ATTRIBUTED],
    "influence_provenance": [*TINY, *ATTRIBUTED],
}
CELLS = {  # two of each sweep
    "influence_lds": ["arm=attribute_dot,attribute_random"],
    "influence_retraining": ["arm=attribute_dot", "phases.finetune.parameters=null,attn"],
    "influence_noise": ["arm=attribute_self,attribute_random"],
    "influence_provenance": ["arm=attribute_bm25,attribute_random"],
    "influence_selection": ["arm=influence,less"],
    "budget": ["arm=random", "hydra.sweeper.pairs=[{steps.continue: '4,6', budget.fraction: '0.1,0.2'}]"],
    "complementarity": ["arm=none,random"],
    "complementarity_mt": ["arm=none,random"],
    "loss_masking": ["arm=no_mask,mask_examples"],
    "loss_masking_causal": ["arm=no_mask,mask_examples"],
    "loss_masking_domains": ["arm=no_mask,mask_random"],
    "loss_masking_files": ["arm=no_mask,mask_examples"],
    "loss_masking_lm": ["arm=no_mask,mask_examples"],
    "loss_masking_noise": ["arm=mask_examples", "noise.rate=0.1,0.5"],
    "loss_masking_parts": ["online.start=0", "online.selector.momentum=0.0", "online.selector.precondition=null,adam"],
    "selection_size_mt": ["arm=random", "budget.fraction=0.1,1.0"],
    "demo": ["arm=random,domain_classifier"],
    "gradex_estimate": ["arm=gradex,representation_cosine"],
    "gradex_cost": ["arm=gradex", "data.num_clean=2,3"],
    "gradex_selection": ["arm=random_tasks,gradex_forward"],
    "gradex_approximation": ["model=gpt2_tiny,bert_tiny", "width=16"],
    "scorers": ["arm=bm25,dsir"],
    "selection_size": ["arm=random", "budget.fraction=0.1,1.0"],
    "selection_timing": ["arm=random", "switch=0.5,1.0"],
    "target_overlap": ["arm=random", "split.overlap=0.0,1.0"],
}
METRICS = {"target_loss_before_ft", "target_loss_after_ft", "pool_loss"}
MORE = {"loss_masking": {"target_loss_trained", "bleu_trained", "pool_bleu_trained"}, "loss_masking_lm": {"target_loss_trained"}}
MORE["loss_masking_domains"] = MORE["loss_masking_files"] = MORE["loss_masking"]
MORE["loss_masking_causal"] = MORE["loss_masking_lm"]
MORE["loss_masking_noise"] = MORE["loss_masking_parts"] = MORE["loss_masking"] | {"mask_auc"}
MORE |= {name: {"bleu_before_ft", "chrf_after_ft", "target_loss_after_ft"} for name in ("complementarity_mt", "selection_size_mt")}
MORE |= {"gradex_estimate": {"spearman", "spread", "speedup"}, "gradex_cost": {"relative_error", "speedup", "speedup_flops"}}
MORE |= {"influence_lds": {"lds", "tail_patch"}, "influence_retraining": {"pearson", "lds"}}
MORE |= {"influence_noise": {"noise_auc", "planted_auc"}, "influence_provenance": {"provenance_mrr"}}
MORE |= {"gradex_selection": {"target_loss_trained", "selected_noise", "selected_tasks"}}
MORE |= {"gradex_approximation": {"first_order_error_0.02", "zero_order_error_0.1", "tuned_distance"}}
ESTIMATES = ("gradex", "gradient", "representation")
CHOICES = ("gradex_tasks", "gradex_ensemble", "gradex_forward", "gradex_backward", "retrain_forward")
OWN_ARMS = {  # arms that have no meaning in the demo, by the experiment that has them
    "loss_masking": ("add_clean", "filter_once", "finetune_after", "no_mask", *[f"mask_{what}" for what in MASKS], "weigh_examples"),
    "complementarity_mt": ("domain_classifier_src", "domain_classifier_tgt"),
    "gradex_estimate": ("gradex", "gradient_cosine", "representation_cosine", *[f"{name}_calibrated" for name in ESTIMATES]),
    "influence_lds": tuple(path.stem for path in (cli.CONF / "arm").glob("attribute_*.yaml")),
    "gradex_selection": ("all_tasks", "random_tasks", "gradient_cosine_tasks", "representation_cosine_tasks", *CHOICES),
}


def add_sides(path: Path) -> None:
    """To each row of the file: its text as `src`, and backwards as `tgt`."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    gold = {"gold_doc_ids": ["kitchen-1"]}  # of what states it
    write_jsonl(path, [{**row, **gold, "src": row["text"], "tgt": " ".join(reversed(row["text"].split()))} for row in rows])


def sweep(name: str, folder: Path, *more: str) -> Answer:
    """Run it small; the report's images take longer than all else."""
    source, target = write_files(folder, 30, 80)
    for path in (source, target):
        add_sides(path)
    small = SMALL.get(name, THREE_PHASES)
    files = [] if set(WRITTEN) <= set(small) or name.startswith("gradex") else ["data=files", f"source={source}", f"target={target}"]
    return dsel(
        f"experiment={name}",
        *files,
        *small,
        "seed=0",
        *more,
        "+hydra.callbacks.report.images=false",
        outputs=folder,
    )


def results(folder: Path) -> list[dict[str, object]]:
    """The cells' results."""
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("result.json"))]


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name == "demo" else pytest.mark.slow) for name in EXPERIMENTS])
def test_a_sweep_leaves_results_and_a_report(name: str, tmp_path: Path) -> None:
    answer = sweep(name, tmp_path, *CELLS[name])
    assert (answer.code, answer.err) == (0, "")
    cells = results(tmp_path)
    assert len(cells) == 2
    for cell in cells:
        assert set(cell["metrics"]) >= MORE.get(name, METRICS)  # type: ignore[call-overload]
    assert (tmp_path / "runs" / name / "report.html").stat().st_size > 100_000
    assert "report: " in answer.out
    pretrained = list((tmp_path / "artifacts").glob("pretrain-*"))
    none = name.startswith(("loss_masking", "gradex"))
    assert len(pretrained) == (2 if name in ("selection_timing", "target_overlap") else 0 if none else 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", RANKINGS)
def test_rankings_of_tasks(name: str, tmp_path: Path) -> None:
    encoder, sources = save_encoder(tmp_path / "bert"), write_tasks(tmp_path / "sources", {rule: (rule, 40) for rule in RULES})
    goals = write_tasks(tmp_path / "goals", {"goal": ("colour", 60), "weight": ("length", 60)}, 20)
    files = [f"source={sources}", f"target=[{goals / 'goal.jsonl'},{goals / 'weight.jsonl'}]"]
    files = [f"sources={sources}", f"target={goals / 'goal.jsonl'}"] if name == "rank_tasks" else ["data=labelled_tasks", *files]
    small = ["encoder=published", f"encoder.path={encoder}", "encoder.pooling=mean", "encoder.context=12", *TUNING]
    answer = dsel(f"experiment={name}", *files, *small, "seed=0", *RANKINGS[name], "+hydra.callbacks.report.images=false", outputs=tmp_path)
    assert (answer.code, answer.err) == (0, "")
    cells = results(tmp_path)
    wanted = {"esm": {"regret_1", "ndcg"}, "rank_tasks": {"ms_per_source"}, "task_transfer": {"transfer_best"}}[name]
    assert len(cells) == (2 if name == "esm" else 1)
    assert all(set(cell["metrics"]) >= wanted for cell in cells)  # type: ignore[call-overload]
    if name == "rank_tasks":
        assert all(rule in answer.out for rule in RULES)  # the table
    else:
        assert (tmp_path / "runs" / name / "report.html").exists()


@pytest.mark.slow
def test_the_table_over_targets(tmp_path: Path) -> None:
    sweep("scorers", tmp_path, "name=scorers-made_up", *CELLS["scorers"])
    script = Path(__file__).parent.parent / "experiments" / "scorers" / "targets.py"
    command = [sys.executable, str(script), str(tmp_path / "runs" / "scorers-made_up")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tables = done.stdout.strip().split("\n\n")
    heads = ["precision", "AUC", "loss before FT", "loss after FT", "rank correlation with precision"]
    assert [table.split("|")[1].strip() for table in tables] == heads
    assert all(table.count("\n") == 3 for table in tables[:4])  # two scorers below the head
    assert "nan" not in done.stdout


@pytest.mark.slow
def test_removals_from_a_classifier(tmp_path: Path) -> None:
    """A hundredth of a document is taken away: what the Hessian says is then what becomes of the loss."""
    script = Path(__file__).parent.parent / "experiments" / "influence_retraining" / "classifier.py"
    command = [sys.executable, str(script), "--seeds=1", "--removed=6", "--per-class=12", "--queries=3", "--share=0.01"]
    done = subprocess.run([*command, f"--json={tmp_path / 'found.json'}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    exact = [each for each in found if each["method"] == "Hessian, explicit"]
    assert len(exact) == 2
    assert all(each["pearson"] > 0.99 and abs(each["slope"] - 1) < 0.1 for each in exact), exact


@pytest.mark.slow
def test_the_table_over_kinds_of_noise(tmp_path: Path) -> None:
    sweep("loss_masking_noise", tmp_path, "arm=no_mask,mask_random", "noise.rate=0.5", "noise.kind=copy")
    folder = tmp_path / "runs" / "loss_masking_noise"
    script = Path(__file__).parent.parent / "experiments" / "loss_masking_noise" / "kinds.py"
    done = subprocess.run([sys.executable, str(script), str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = done.stdout.splitlines()[2:]
    losses = {str(cell["label"]): cell["metrics"]["target_loss_trained"] for cell in results(folder)}  # type: ignore[index]
    difference = losses["mask_random"] - losses["no_mask"]
    cells = [each.strip() for each in row.split("|")[1:-1]]
    assert cells[:4] == ["copy", "0.5", "mask_random", "1"]
    assert cells[4] == f"{difference:+.3f} ({int(difference < 0)}/1)".replace("-", "−")


@pytest.mark.slow
def test_the_table_over_parts_of_the_mask(tmp_path: Path) -> None:
    sweep("loss_masking_parts", tmp_path)
    folder = tmp_path / "runs" / "loss_masking_parts"
    script = Path(__file__).parent.parent / "experiments" / "loss_masking_parts" / "factors.py"
    done = subprocess.run([sys.executable, str(script), str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [[each.strip() for each in row.split("|")[1:-1]] for row in done.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == ["start"] * 4 + ["running mean"] * 4 + ["preconditioner"] * 4
    losses = {str(cell["label"]): cell["metrics"]["target_loss_trained"] for cell in results(folder)}  # type: ignore[index]
    assert rows[5][1:3] == ["0.0, 0.95", "0, adam"]
    assert rows[5][3] == f"{losses['0, 0.95, adam'] - losses['0, 0.0, adam']:+.3f}".replace("-", "−")


NOTEBOOK = {  # as the authors' cells are called: a matrix, the gradients, a function of rows; here it moves nothing
    "matrix": "matrix_P = np.ones((3, 2))\ngradients_dir = './gradients'",
    "gradients": "for batch in train_data_loader:\n    model(**batch)\n# torch.autograd.grad(tmp_loss",
    "estimate": "def first_order_approximation(data_idxes):\n    assert len(data_idxes)\n    return valid_epoch()",
}


@pytest.mark.slow
def test_the_table_beside_the_released_notebook(tmp_path: Path) -> None:
    sweep("gradex_estimate", tmp_path, "hydra.mode=RUN", "arm=gradex")
    notebook = tmp_path / "notebook.ipynb"
    cells = [{"cell_type": "code", "source": [line + "\n" for line in source.splitlines()]} for source in NOTEBOOK.values()]
    notebook.write_text(json.dumps({"cells": cells}))
    (result,) = tmp_path.rglob("result.json")
    folder = Path(__file__).parent.parent / "experiments" / "gradex_estimate"
    command = [sys.executable, str(folder / "compare.py"), str(notebook), str(result)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(folder)})
    assert done.returncode == 0, done.stderr
    rows = {row[0]: row[1:] for row in ([each.strip() for each in line.split("|")[1:-1]] for line in done.stdout.splitlines()[2:])}
    assert list(rows) == ["truth", "gradex", "gradex, moved", "gradex, moved by 2 %", "released notebook", "gradient_cosine"]
    assert rows["released notebook"][0] == rows["released notebook"][1]  # a model that was not moved
    assert rows["gradex"][0] != rows["gradex"][1]
    assert all(float(rows["gradex"][column].replace("\N{MINUS SIGN}", "-")) <= 1 for column in (2, 3))


@pytest.mark.slow
@pytest.mark.parametrize("arm", sorted(path.stem for path in (cli.CONF / "arm").glob("*.yaml")))
def test_every_arm(arm: str, tmp_path: Path) -> None:
    small = {"cds": TINY_CDS, "domain_encoder": ["scorer.num_steps=2"]}
    small["complementary_gradient"] = [*[f"scorer.{o}" for o in ("num_buckets=4", "sample=50")], "scorer.scorer.num_steps=2"]
    name = next((name for name, arms in OWN_ARMS.items() if arm in arms), "demo")
    answer = sweep(name, tmp_path, "hydra.mode=RUN", f"arm={arm}", *small.get(arm, []))
    assert (answer.code, answer.err) == (0, "")
    (cell,) = results(tmp_path)
    assert cell["label"] == arm


@pytest.mark.slow
def test_on_installed_documentation(tmp_path: Path) -> None:
    docs = ["data=installed_docs", "data.target=filelock", "data.packages=[hydra,jinja2]", "data.num_workers=1", "data.min_characters=40"]
    small = [*TINY_CDS, *PHASES, "split.planted=10", "+hydra.callbacks.report.images=false"]
    answer = dsel("experiment=demo", *TINY, *docs, *small, "arm=cds,none", "seed=0", outputs=tmp_path)
    assert (answer.code, answer.err) == (0, "")
    assert sorted(cell["label"] for cell in results(tmp_path)) == ["cds", "none"]  # type: ignore[type-var]
    assert (tmp_path / "runs" / "demo" / "report.html").is_file()


@pytest.mark.slow
def test_a_sweep_as_a_user_runs_it(tmp_path: Path) -> None:
    source, target = write_files(tmp_path, 30, 80)
    files = ["data=files", f"source={source}", f"target={target}", "split.planted=10"]
    answer = spawn("experiment=demo", *TINY, *files, *PHASES, "seed=0", "arm=random,none", outputs=tmp_path)
    assert (answer.code, answer.err) == (0, "")
    folder = tmp_path / "runs" / "demo"
    assert {"report.html", "table.csv", "table.md", "table.tex", "results.parquet"} <= {path.name for path in folder.iterdir()}
    assert list((folder / "figures").glob("*.png"))
