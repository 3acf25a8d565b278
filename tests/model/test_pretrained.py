"""Models that exist already: the run's losses and translations are those that transformers computes from the folder."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import torch
from command import dsel
from laboratory import Lab
from transformers import AutoTokenizer, BertForMaskedLM, GPT2LMHeadModel, MarianMTModel

from dsel.error import InputError
from dsel.model.from_config import FromConfig
from dsel.model.pretrained import Pretrained, PretrainedMaskedLM, PretrainedSeq2Seq
from dsel.model.seq2seq import Seq2Seq
from dsel.objective.instruction import Instruction
from dsel.objective.pairs import Pairs
from dsel.pool import SRC, TGT, Pool, fingerprint_table
from dsel.training.checkpoint import load_model, save_model

PAIRS = ["data.num_source=120", "data.num_target=60", "steps.total=4", "hydra.mode=RUN", "phases.bleu.num_beams=1", "trainer=debug"]


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Marian model with random weights and its tokenizer, as transformers saves them."""
    import pyarrow as pa

    folder, recipe = tmp_path_factory.mktemp("marian"), Seq2Seq(num_layers=1, dim=16, ffn_dim=32, num_heads=2, vocab_size=300, context=32)
    table = pa.table({SRC: ["March 3, 2021", "12 hours ago"] * 20, TGT: ["3. März 2021", "vor 12 Stunden"] * 20})
    tokenizer = recipe.tokenizer(Pool("source", table, fingerprint_table(table)))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        recipe.build(len(tokenizer)).save_pretrained(folder)  # type: ignore[operator]
    tokenizer.save_pretrained(folder)
    return folder


def test_a_translation_model(translator: Path, tmp_path: Path) -> None:
    """Not trained at all, so that its loss and its sentences can be had without us."""
    given = ["model=mt_pretrained", f"model.path={translator}", "model.context=24", "phases.train.until=0"]
    answer = dsel("experiment=loss_masking", *PAIRS, *given, outputs=tmp_path)
    assert answer.code == 0, answer.err
    (path,) = tmp_path.rglob("result.json")
    metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    (sentences,) = tmp_path.rglob("translations.parquet")
    rows = pl.read_parquet(sentences).filter(pl.col("part") == "target")
    model, tokenizer = MarianMTModel.from_pretrained(translator).eval(), AutoTokenizer.from_pretrained(translator)
    total, count = 0.0, 0
    for src, tgt, hypothesis in rows.select("src", "tgt", "hypothesis").iter_rows():
        source, target = (torch.tensor([[*tokenizer(text, add_special_tokens=False)["input_ids"], 1][:24]]) for text in (src, tgt))
        with torch.inference_mode():
            ids = model.generate(source, num_beams=1, do_sample=False, max_new_tokens=min(24, 2 * source.shape[1] + 10))
            total += float(model(input_ids=source, labels=target).loss) * target.shape[1]
        count += target.shape[1]
        alone = tokenizer.decode(ids[0], skip_special_tokens=True).rstrip("\ufffd")  # half of a letter
        assert hypothesis.startswith(alone)  # random weights never end, and the longest source of a batch says how far they go
        assert len(alone) > 3
    assert metrics["target_loss_trained"] == pytest.approx(total / count, rel=1e-4)


def test_it_is_what_training_begins_with(translator: Path, tmp_path: Path) -> None:
    for online in ("none", "gradient_mask"):
        given = ["model=mt_pretrained", f"model.path={translator}", "model.context=24", "phases.train.every=2", "phases.train.warmup=1"]
        answer = dsel("experiment=loss_masking", *PAIRS, *given, *[f"online={online}"] * (online != "none"), outputs=tmp_path / online)
        assert answer.code == 0, answer.err
        (curve,) = (tmp_path / online).rglob("curve.parquet")
        steps = pl.read_parquet(curve)
        assert steps["step"].to_list() == [0, 2, 4]
        assert steps["target_loss"][2] < steps["target_loss"][0] < 6.5


def test_a_language_model(lab: Lab, tmp_path: Path) -> None:
    trained = lab.state.checkpoint_of(None)
    assert trained is not None
    lab.world.tokenizer.save_pretrained(tmp_path / "gpt2")  # type: ignore[union-attr]
    GPT2LMHeadModel.from_pretrained(trained / "model").save_pretrained(tmp_path / "gpt2")
    recipe = Pretrained(str(tmp_path / "gpt2"), context=32)
    model, published = recipe.build(0), GPT2LMHeadModel.from_pretrained(trained / "model")
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), published.parameters(), strict=True))
    text = lab.source.table["text"][0].as_py()
    assert recipe.tokenizer(lab.source)(text)["input_ids"] == lab.world.tokenizer(text)["input_ids"]  # type: ignore[misc]


@pytest.mark.parametrize("kind", [Pretrained, PretrainedSeq2Seq])
def test_what_cannot_be_loaded_is_said(kind: type[Pretrained], lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    recipe = kind(str(tmp_path / "empty"))
    with pytest.raises(InputError, match=r"model.path=.*/empty: no model can be loaded from that folder or hub name"):
        recipe.build(0)
    with pytest.raises(InputError, match=r"model.path=.*/empty: no tokenizer can be loaded"):
        recipe.tokenizer(lab.source)


def test_a_model_that_does_not_translate(lab: Lab, tmp_path: Path) -> None:
    lab.context().load(None).save_pretrained(tmp_path)  # type: ignore[operator]
    with pytest.raises(InputError, match=r"model.path=.*: no model can be loaded"):
        PretrainedSeq2Seq(str(tmp_path)).build(0)


def publish(recipe: FromConfig, folder: Path) -> FromConfig:
    """A model with random weights and its tokenizer, as others save them: the config says nothing of masks and ends."""
    import pyarrow as pa

    table = pa.table({SRC: ["12 plus 30 =", "7 minus 5 ="] * 20, TGT: ["42", "2"] * 20})
    tokenizer = recipe.tokenizer(Pool("source", table, fingerprint_table(table)))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = recipe.build(len(tokenizer))
    if "mask_token_id" in vars(model.config):
        del model.config.mask_token_id
    model.config.eos_token_id = None  # type: ignore[union-attr]
    model.save_pretrained(folder)  # type: ignore[operator]
    tokenizer.save_pretrained(folder)
    return recipe


def test_a_masked_language_model(tmp_path: Path) -> None:
    """It is told what its tokenizer's mask and end are, and still knows when it was saved by us."""
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    made = publish(FromConfig("bert", size, context=12), tmp_path / "bert")
    recipe, pairs = PretrainedMaskedLM(str(tmp_path / "bert"), context=12), Pairs(torch.tensor([[1, 9, 7]]), torch.tensor([[1, 8, 5]]))
    model = recipe.build(0)
    assert recipe.objective == made.objective
    save_model(model, tmp_path)
    published = BertForMaskedLM.from_pretrained(tmp_path / "bert").eval()
    with torch.inference_mode():
        scores = published(torch.tensor([[1, 9, 7, 2, 2, 1]])).logits[0].log_softmax(-1)
        expected = -torch.stack([scores[3, 8], scores[4, 5]])
        for some in (model.eval(), load_model(tmp_path)):
            torch.testing.assert_close(recipe.objective.token_losses(some, pairs)[0], expected)
    with pytest.raises(InputError, match=r"model.context=14: .* reads at most 28 tokens; set model.context=13"):
        PretrainedMaskedLM(str(tmp_path / "bert"), context=14).build(0)


def test_a_causal_model_of_pairs(tmp_path: Path) -> None:
    publish(FromConfig("gpt2", {"n_layer": 1, "n_embd": 16, "n_head": 2}, context=12), tmp_path)
    recipe = Pretrained(str(tmp_path), context=14, objective=Instruction())
    assert recipe.objective == Instruction()
    recipe.build(0)
    with pytest.raises(InputError, match=r"model.context=15: .* reads at most 28 tokens; set model.context=14"):
        Pretrained(str(tmp_path), context=15, objective=Instruction()).build(0)
    with pytest.raises(InputError, match=r"model.path=.*: no model can be loaded from that folder"):
        PretrainedMaskedLM(str(tmp_path)).build(0)


def test_a_tokenizer_without_a_mask(translator: Path, tmp_path: Path) -> None:
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    publish(FromConfig("bert", size), tmp_path)
    AutoTokenizer.from_pretrained(translator).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="its tokenizer has no mask token; give a masked language model, or model=pretrained"):
        PretrainedMaskedLM(str(tmp_path), context=8).build(0)
