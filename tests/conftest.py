"""Fixtures of the core tests: a made-up corpus, a tiny model that was really trained, and what a method may look at."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from laboratory import Lab
from made_up_corpus import tiny_config, write_files
from ranking_lab import RankingLab
from task_lab import TaskLab
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from dsel.artifact import Store
from dsel.corpus import Corpus
from dsel.pipeline import Run

settings.register_profile("dsel", deadline=None)  # a busy machine is not an error
settings.load_profile("dsel")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # matrices are tiny; and sums do not depend on the machine
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c() -> None:
    """Processes that tests start must hear a Ctrl-C, also where the tests run in the background of a script, whose children do not."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """`source.jsonl` and `target.jsonl` of the made-up corpus."""
    return write_files(tmp_path)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """One pretrained tiny model for all tests that only look at it."""
    folder = tmp_path_factory.mktemp("lab")
    source, target = write_files(folder)
    config = tiny_config(source, target, folder / "outputs", "steps.total=60")
    config["pipeline"] = ["pretrain"]
    config["phases"]["pretrain"] |= {"until": 1.0, "batch_size": 8, "every": 60}
    config["phases"]["pretrain"]["optimizer"] = {**config["phases"]["pretrain"]["optimizer"], "lr": 1e-2}
    run, store = Run(config), Store(folder / "outputs" / "artifacts")
    state = run.fold(store)
    return Lab(config, run, store, replace(run.world(store), name="score"), state, source, target)


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> TaskLab:
    """One model trained on six small tasks, for all tests that only look at it."""
    return TaskLab.make(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="session")
def ranking(tmp_path_factory: pytest.TempPathFactory) -> RankingLab:
    """Small labelled tasks and a tiny encoder, for all tests that rank; what they ask for is made once."""
    return RankingLab.make(tmp_path_factory.mktemp("ranking"))


@pytest.fixture(scope="session")
def corpus(lab: Lab) -> Corpus:
    """The lab's corpus."""
    return lab.world.corpus


@pytest.fixture(scope="session")
def checkpoint(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT with random weights and a word tokenizer, saved as transformers does."""
    folder = tmp_path_factory.mktemp("bert")
    words = {word for text in lab.source.table["text"].to_pylist() for word in text.replace(".", " .").split()}
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **shape)).save_pretrained(folder)
    return folder
