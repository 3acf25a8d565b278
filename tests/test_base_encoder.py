"""Tokens of rows, and where an encoder is found again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ranking_lab import save_encoder
from transformers import AutoTokenizer, DistilBertConfig, DistilBertModel

from dsel.base_encoder import FILE, BaseEncoder
from dsel.error import InputError
from dsel.labelled import LabelledTask

FIRST = ["red " * 9, "blue cat", "one two three four five", "eel"]
SECOND = ["small", "large dog", "six " * 9, None]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseEncoder:
    """Reads ten tokens."""
    return BaseEncoder(str(save_encoder(tmp_path_factory.mktemp("bert"))), "tiny", "mean", 10, "key")


def task(second: list[str | None] | None) -> LabelledTask:
    return LabelledTask("rows", FIRST, second, np.array([0, 1, 0, 1]), ("no", "yes"), list("abcd"))


def encode(base: BaseEncoder, own: LabelledTask) -> tuple[list[list[int]], int]:
    tokens, cut = base.encode(own, base.tokenizer())
    return [tokens.flat[a:b].tolist() for a, b in zip(tokens.offsets, tokens.offsets[1:], strict=False)], cut


def test_texts_are_cut_at_the_context(base: BaseEncoder) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base.place)
    rows, cut = encode(base, task(None))
    assert cut == 1
    for text, own in zip(FIRST, rows, strict=True):
        whole = tokenizer(text)["input_ids"]
        assert own == (whole if len(whole) <= 10 else [*whole[:9], whole[-1]])


def test_the_longer_side_is_cut_first(base: BaseEncoder) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base.place)
    rows, cut = encode(base, task(SECOND))
    assert cut == 2
    red, six, small = (tokenizer.convert_tokens_to_ids(word) for word in ("red", "six", "small"))
    assert rows[0] == [2, *[red] * 6, 3, small, 3]
    assert rows[1] == tokenizer("blue cat", "large dog")["input_ids"]
    assert len(rows[2]) == 10
    assert rows[2].count(six) in (3, 4)
    assert rows[3] == tokenizer(["eel"], [""])["input_ids"][0]  # a row of a task of pairs that has no second text


def test_cutting_once_does_not_cut_the_next(base: BaseEncoder) -> None:
    """The tokenizer keeps no setting."""
    tokenizer = base.tokenizer()
    base.encode(task(None), tokenizer)
    wide = replace(base, context=30)
    tokens, cut = wide.encode(task(None), tokenizer)
    assert (cut, int(tokens.lengths[0])) == (0, 11)


def test_it_is_read_once(tmp_path: Path) -> None:
    """By each object anew."""
    base = BaseEncoder(str(save_encoder(tmp_path / "bert")), "tiny", "mean", 10, "key")
    tokenizer, dim = base.tokenizer(), base.dim()
    assert dim == 16
    shutil.rmtree(tmp_path / "bert")
    assert base.tokenizer() is tokenizer
    assert base.dim() == dim
    assert base == replace(base)
    with pytest.raises(InputError, match="no tokenizer can be loaded"):
        replace(base).tokenizer()


def test_it_is_found_where_artifacts_were_moved_to(base: BaseEncoder, tmp_path: Path) -> None:
    store = tmp_path / "artifacts"
    shutil.copytree(base.place, store / "encoder-1" / "model")
    (store / "phase-2").mkdir()
    inside = replace(base, place=str(store / "encoder-1" / "model"), revision="main")
    inside.save(store / "phase-2")
    assert BaseEncoder.load(store / "phase-2") == inside
    assert str(tmp_path) not in (store / "phase-2" / FILE).read_text()
    moved = store.rename(tmp_path / "elsewhere")
    found = BaseEncoder.load(moved / "phase-2")
    assert Path(found.place).samefile(moved / "encoder-1" / "model")
    assert replace(found, place=inside.place) == inside
    found.tokenizer()


@pytest.mark.parametrize("place", ["google-bert/bert-base-uncased", "folder"])
def test_what_is_no_artifact_stays_where_it_is(base: BaseEncoder, tmp_path: Path, place: str) -> None:
    (tmp_path / "artifacts" / "phase-2").mkdir(parents=True)
    given = replace(base, place=str(tmp_path / "own") if place == "folder" else place)
    given.save(tmp_path / "artifacts" / "phase-2")
    (tmp_path / "artifacts").rename(tmp_path / "moved")
    assert BaseEncoder.load(tmp_path / "moved" / "phase-2") == given
    assert json.loads((tmp_path / "moved" / "phase-2" / FILE).read_text())["place"] == given.place


def test_checks(base: BaseEncoder, tmp_path: Path) -> None:
    assert base.check() is base
    assert replace(base, pooling="pooler", context=40).check()
    bare = DistilBertModel(DistilBertConfig(vocab_size=60, dim=16, n_layers=1, n_heads=2, hidden_dim=32))
    without = save_encoder(tmp_path / "distilbert", bare)
    (tmp_path / "empty").mkdir()
    wrong = {
        r"encoder\.pooling=max: must be one of cls, mean, pooler": {"pooling": "max"},
        r"encoder\.context=41: tiny does not read so many tokens \(40 places\); set it lower": {"context": 41},
        r"encoder\.pooling=pooler: tiny has no pooler; give encoder\.pooling=cls or mean": {"pooling": "pooler", "place": str(without)},
        r"encoder\.path=.*empty: no tokenizer can be loaded from that folder or hub name": {"place": str(tmp_path / "empty")},
    }
    for message, changes in wrong.items():
        with pytest.raises(InputError, match=message) as raised:
            replace(base, **changes).check()
        assert "\n" not in str(raised.value)


def test_a_tokenizer_without_weights(base: BaseEncoder, tmp_path: Path) -> None:
    shutil.copytree(base.place, tmp_path / "bert")
    (tmp_path / "bert" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"encoder\.path=.*bert: no encoder can be loaded") as raised:
        replace(base, place=str(tmp_path / "bert")).check()
    assert "\n" not in str(raised.value)
