"""The encoder against transformers' own forward pass, one document at a time and without padding."""

from __future__ import annotations

import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from laboratory import Lab
from transformers import AutoModel, AutoTokenizer

from dsel.error import InputError
from dsel.functional import embedding
from dsel.functional.embedding import Encoder, MeanVectors, load_encoder

TEXTS = [
    "The diver tows the barge.",
    "",
    "The observer charts the comet number 7 at dawn. " * 9,
    "comet",
    "The student gladly dims the lens in winter.",
]


def own(folder: Path, max_length: int) -> list[np.ndarray[tuple[int], np.dtype[np.float32]]]:
    """Mean last states by transformers alone."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    found = []
    for text in TEXTS:
        ids = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
        with torch.inference_mode():
            found.append(model(**ids).last_hidden_state[0].mean(0).numpy())
    return found


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_vectors_of_a_folder(checkpoint: Path, batch_size: int) -> None:
    vectors = MeanVectors(load_encoder(str(checkpoint), 20, "x"), batch_size)
    found = vectors(pa.table({"text": TEXTS}))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, own(checkpoint, 20), rtol=1e-4, atol=1e-5)
    assert len({str(row.round(3)) for row in found}) == len(TEXTS)  # the weights are not such that everything is alike


def test_vectors_of_the_runs_own_model(lab: Lab) -> None:
    model = lab.context().load(None).base_model
    table = lab.source.table.slice(0, 40)
    found = MeanVectors(Encoder(model, 24), 7)(table)  # type: ignore[arg-type]
    lists = table["dsel_tokens"].to_pylist()
    assert max(map(len, lists)) > 24
    for ids, vector in zip(lists, found, strict=True):
        with torch.inference_mode():
            expected = model(input_ids=torch.tensor([ids[:24]])).last_hidden_state[0].mean(0)  # type: ignore[operator]
        np.testing.assert_allclose(vector, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_a_copy_in_threads_gives_the_same(checkpoint: Path) -> None:
    vectors = MeanVectors(load_encoder(str(checkpoint), 20, "x"), 4)
    copy, table = pickle.loads(pickle.dumps(vectors)), pa.table({"text": TEXTS})
    expected = vectors(table)
    with ThreadPoolExecutor(4) as workers:
        for found in workers.map(lambda _: copy(table), range(8)):
            np.testing.assert_array_equal(found, expected)


def test_no_document_no_vector(checkpoint: Path) -> None:
    assert len(MeanVectors(load_encoder(str(checkpoint), 20, "x"), 4)(pa.table({"text": pa.array([], pa.string())}))) == 0


def test_loading_draws_from_no_generator(checkpoint: Path) -> None:
    before = torch.get_rng_state()
    encoder = load_encoder(str(checkpoint), 20, "x")
    assert torch.equal(torch.get_rng_state(), before)
    assert not encoder.model.training
    assert not any(p.requires_grad for p in encoder.model.parameters())


def test_a_text_is_cut_at_what_the_model_takes(checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "short")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = 8
    tokenizer.save_pretrained(folder)
    found = MeanVectors(load_encoder(str(folder), 512, "x"), 4)(pa.table({"text": TEXTS}))
    np.testing.assert_allclose(found, own(checkpoint, 8), rtol=1e-4, atol=1e-5)


def test_the_sentence_encoder_is_found_in_its_package(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any checkpoint, laid out as the package lays out its own; none of the package's code is run."""
    package = tmp_path / embedding.MINILM_PACKAGE
    shutil.copytree(checkpoint, package / "model")
    (package / "__init__.py").write_text("raise RuntimeError\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = MeanVectors(load_encoder("minilm", 20, "x"), 4)(pa.table({"text": TEXTS}))
    np.testing.assert_allclose(found, own(checkpoint, 20), rtol=1e-4, atol=1e-5)


def test_without_the_package_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"scorer\.encoder=minilm: is not installed; pip install 'dsel\[encoder\]'"):
        load_encoder("minilm", 20, "x")
