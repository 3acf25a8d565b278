"""The phase that translates, at the end of a run on parallel sentences."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import sacrebleu
from command import TINY, dsel

from dsel.phase.translate import corpus_scores, signatures
from dsel.pool import NOISE, read_table

SMALL = [
    "data.num_source=200", "data.num_target=60", "model.num_layers=1", "model.dim=16", "model.ffn_dim=32", "model.num_heads=2",
    "model.vocab_size=300", "model.context=24", "steps.total=4", "phases.train.batch_size=4", "phases.train.warmup=1",
    "phases.train.every=2", "hydra.mode=RUN", "phases.bleu.num_beams=2", "phases.bleu.max_pairs=20",
]  # fmt: skip


@pytest.mark.parametrize("online", [None, "gradient_mask", "random_mask", "loss_mask"])
def test_a_translation_model_from_noise_to_bleu(online: str | None, tmp_path: Path) -> None:
    answer = dsel("experiment=loss_masking", *SMALL, *([f"online={online}"] if online else []), outputs=tmp_path)
    assert (answer.code, answer.err) == (0, "")
    (path,) = tmp_path.rglob("result.json")
    metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    assert {"bleu_trained", "chrf_trained", "pool_bleu_trained", "target_loss_trained"} <= metrics.keys()
    assert ({"masked_share", "mask_auc"} <= metrics.keys()) == (online is not None)
    (sentences,) = tmp_path.rglob("translations.parquet")
    found = pl.read_parquet(sentences).filter(pl.col("part") == "target")
    assert len(found) == 15  # all of the test pairs, once
    score = sacrebleu.corpus_bleu(found["hypothesis"].to_list(), [found["tgt"].to_list()]).score
    assert metrics["bleu_trained"] == pytest.approx(score)


def test_scores_are_those_of_sacrebleu() -> None:
    right, wrong = ["the cat sat on the mat", "a dog"], ["the cat sat on a mat", "a dog"]
    assert corpus_scores(right, right) == {"bleu": pytest.approx(100), "chrf": pytest.approx(100)}
    assert corpus_scores(wrong, right)["bleu"] == sacrebleu.corpus_bleu(wrong, [right]).score
    assert all("version:" in signature for signature in signatures().values())


def texts_without_pairs(folder: Path) -> list[str]:
    texts = folder / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": f"document number {n}"}) + "\n" for n in range(60)), encoding="utf-8")
    files = ["data=files", f"source={texts}", f"target={texts}", "split.exclude_target=false"]
    return ["experiment=loss_masking_lm", "hydra.mode=RUN", *files, "steps.total=2", "phases.train.warmup=1"]


def test_a_run_without_pairs(tmp_path: Path) -> None:
    tail = ["+phase@phases.bleu=translate", "phases.bleu.suffix=trained", "pipeline=[train,bleu]"]
    answer = dsel(*texts_without_pairs(tmp_path), *TINY, *tail, outputs=tmp_path)
    assert "phases.bleu: the target has no pairs to translate; give data with src and tgt" in answer.error


def test_a_translation_model_without_pairs(tmp_path: Path) -> None:
    answer = dsel(*texts_without_pairs(tmp_path), "model=mt_tiny", outputs=tmp_path)
    assert "no column 'src', which the model reads; give pairs, by data=localized or data.src_column=" in answer.error


def test_a_model_that_does_not_translate(tmp_path: Path) -> None:
    causal = [each for each in SMALL if "ffn_dim" not in each]
    answer = dsel("experiment=loss_masking", *causal, "model=mt_causal", outputs=tmp_path)
    assert "phases.bleu: model= is no encoder-decoder, such as mt_tiny; give one, or take the phase out" in answer.error


def test_the_pool_is_measured_on_its_right_pairs(tmp_path: Path) -> None:
    answer = dsel("experiment=loss_masking", *SMALL, "data.noise.misaligned=1.0", "split.holdout=0.2", outputs=tmp_path)
    assert (answer.code, answer.err) == (0, "")
    (path,) = tmp_path.rglob("result.json")
    metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    (holdout,) = tmp_path.rglob("holdout.arrow")
    assert read_table(holdout)[NOISE].null_count == 0  # none is right, so that there is nothing to measure on
    assert not {name for name in metrics if name.startswith("pool_")}
