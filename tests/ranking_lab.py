"""Small tasks about the words of made-up texts, a tiny encoder in a folder, and a workbench on both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning
import torch
from made_up_corpus import resolve
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from dsel.artifact import Store
from dsel.base_encoder import BaseEncoder
from dsel.labelled import LabelledTask
from dsel.phase.map_fitting import MapFitting
from dsel.phase.tuning import Tuning
from dsel.phase.workbench import Workbench

COLOURS, ANIMALS, SIZES = ("red", "blue"), ("cat", "dog", "eel"), ("small", "large")
FILLERS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
CONTEXT = 12
RULES = ("animal", "colour", "length", "size")  # of the sources; that of the target is colour, and of the target `weight` length
TUNING = [
    "trainer=debug", "tuning.learning_rate=0.01", "tuning.num_epochs=1", "tuning.min_steps=4", "tuning.batch_size=16",
    "optimizer.weight_decay=0.0",
]  # fmt: skip


def rows_of(rule: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Texts of six to ten words, and the label that the rule gives them: a word that stands in the text, or a number."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(count):
        marks = {"colour": rng.choice(COLOURS), "animal": rng.choice(ANIMALS), "size": rng.choice(SIZES)}
        words = [*map(str, marks.values()), *map(str, rng.choice(FILLERS, rng.integers(3, 8)))]
        label = len(words) + 0.5 if rule == "length" else str(marks[rule])
        rows.append({"text": " ".join(words[at] for at in rng.permutation(len(words))), "label": label})
    return rows


def task_of(rule: str, count: int, seed: int, name: str | None = None) -> LabelledTask:
    """Those rows as a task."""
    rows = rows_of(rule, count, seed)
    classes = () if rule == "length" else tuple(sorted({row["label"] for row in rows}))
    labels = np.array([row["label"] for row in rows]) if not classes else np.array([classes.index(row["label"]) for row in rows])
    name = name or rule
    return LabelledTask(name, [row["text"] for row in rows], None, labels, classes, [f"{name}-{row}" for row in range(count)])


def save_encoder(folder: Path, model: torch.nn.Module | None = None, **shape: Any) -> Path:
    """A BERT with random weights, or another model, and a WordPiece tokenizer whose pieces are the words and letters."""
    words = [*SPECIAL, *COLOURS, *ANIMALS, *SIZES, *FILLERS, *"abcdefghijklmnopqrstuvwxyz", *(f"##{letter}" for letter in "abcdefgorst")]
    tokenizer = Tokenizer(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)  # fmt: skip
    if model is None:
        model = tiny_bert(vocab_size=len(words), **shape)
    model.save_pretrained(folder)  # type: ignore[operator]
    return folder


def tiny_bert(seed: int = 0, **shape: Any) -> BertModel:
    """One layer of 16 dimensions, without dropout."""
    given = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 60}
    more = {"max_position_embeddings": 40, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.2}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return BertModel(BertConfig(**{**given, **more, **shape}))


def tuning(**changes: Any) -> Tuning:
    """A few steps on a CPU."""
    trainer = partial(pytorch_lightning.Trainer, accelerator="cpu", devices=1, gradient_clip_val=1.0)
    given = {"learning_rate": 0.01, "num_epochs": 1, "min_steps": 6, "batch_size": 16}
    return Tuning(partial(torch.optim.AdamW, weight_decay=0.0), trainer, **{**given, **changes})


@dataclass(frozen=True)
class RankingLab:
    """Sources by name, one of which (`colour`) asks what the target asks, and one of which (`length`) is a regression."""

    encoder: Path
    base: BaseEncoder
    bench: Workbench
    target: LabelledTask
    test: LabelledTask
    weight: LabelledTask  # a target that is a regression
    folder: Path

    @staticmethod
    def make(folder: Path) -> RankingLab:
        """Nothing is tuned before it is asked for."""
        encoder = save_encoder(folder / "bert")
        base = BaseEncoder(str(encoder), "tiny", "mean", CONTEXT, "tiny")
        sources = {name: task_of(name, 60, seed) for seed, name in enumerate(RULES)}
        bench = Workbench(base, tuning(min_steps=40), MapFitting(penalties=(0.1, 10.0)), sources, Store(folder / "artifacts"), 0)
        target, test, weight = task_of("colour", 40, 10, "goal"), task_of("colour", 40, 11, "goal"), task_of("length", 40, 12, "weight")
        return RankingLab(encoder, base, bench, target, test, weight, folder)


def write_tasks(folder: Path, rules: Mapping[str, tuple[str, int]], first_seed: int = 0) -> Path:
    """A JSON Lines file a task: by the name, the rule and the number of rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, (rule, count)) in enumerate(rules.items(), first_seed):
        lines = [json.dumps(row) + "\n" for row in rows_of(rule, count, seed)]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def ranking_config(lab: RankingLab, outputs: Path, *overrides: str, targets: Sequence[str] = ("goal",)) -> dict[str, Any]:
    """The resolved config of `dsel experiment=rank_tasks` on files, made small."""
    if not (lab.folder / "files").exists():
        write_tasks(lab.folder / "files", {rule: (rule, 40) for rule in RULES})
        write_tasks(lab.folder / "goals", {"goal": ("colour", 60), "weight": ("length", 60), "small": ("colour", 15)}, 20)
    paths = ",".join(str(lab.folder / "goals" / f"{name}.jsonl") for name in targets)
    encoder = ["encoder=published", f"encoder.path={lab.encoder}", "encoder.pooling=mean", f"encoder.context={CONTEXT}"]
    given = ["experiment=rank_tasks", f"sources={lab.folder / 'files'}", f"target=[{paths}]", f"paths.outputs={outputs}"]
    return resolve([*given, *encoder, *TUNING, "phases.rank.num_resamples=3", "map.penalties=[0.1,10.0]", *overrides])
