"""An encoder that is pretrained on documents: made once, by what its weights hang on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import pytorch_lightning
import torch
from laboratory import Lab
from made_up_corpus import documents
from transformers import AutoModel, AutoTokenizer

from dsel.artifact import Store
from dsel.context import World
from dsel.corpus import Documents
from dsel.encoder.docs import Docs
from dsel.error import InputError
from dsel.labelled import LabelledTask
from dsel.model.masked_lm import MaskedLM
from dsel.phase.train import Train


@dataclass(frozen=True)
class FewTexts:
    """Made-up documents; `read` is counted."""

    num_texts: int = 30
    asked: list[int] = field(default_factory=list)

    def identity(self) -> Any:
        """The only option."""
        return self.num_texts

    def read(self) -> Documents:
        """The target is of another domain."""
        self.asked.append(1)
        tables = [pa.Table.from_pylist([{**row, "dsel_row": at} for at, row in enumerate(rows)]) for rows in self._rows()]
        return Documents(tables[0], tables[1])

    def _rows(self) -> list[list[dict[str, str]]]:
        return [documents("kitchen", self.num_texts), documents("stars", 12)]


def train(**changes: Any) -> Train:
    trainer = partial(pytorch_lightning.Trainer, accelerator="cpu", devices=1)
    given = {"total_steps": 2, "warmup": 1, "every": 2, "batch_size": 2, "eval_tokens": 64}
    return Train(partial(torch.optim.AdamW, lr=1e-2), trainer, **{**given, **changes})


def docs(**changes: Any) -> Docs:
    return replace(
        Docs(FewTexts(), MaskedLM(num_layers=1, dim=16, num_heads=2, context=32, vocab_size=300), train(), context=24), **changes
    )


def prepare(lab: Lab, root: Path, encoder: Docs) -> Any:
    """As a run does, whose config says of the parts what their classes say."""
    parts = {name: repr(getattr(encoder, name)) for name in ("model", "train")}
    given = {**parts, "documents": encoder.documents.num_texts, "seed": encoder.seed, "context": encoder.context}  # type: ignore[attr-defined]
    world: World = replace(lab.world, store=Store(root), config={"encoder": given})
    return encoder.prepare(world)


@pytest.fixture(scope="module")
def made(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Docs, Any]:
    """Where, what by, and what."""
    root, encoder = tmp_path_factory.mktemp("encoder"), docs()
    return root, encoder, prepare(lab, root, encoder)


def test_end_to_end(made: tuple[Path, Docs, Any]) -> None:
    _, _, base = made
    assert base.name == f"docs-{base.key[:8]}"
    assert (base.pooling, base.context, base.revision) == ("mean", 24, None)
    model, tokenizer = AutoModel.from_pretrained(base.place), AutoTokenizer.from_pretrained(base.place)
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (1, 16)
    assert len(tokenizer) <= model.config.vocab_size
    pairs = LabelledTask("pairs", ["the cook", "a ferry"], ["soup", "anchor"], np.array([0, 1]), ("no", "yes"), ["a", "b"])
    tokens, cut = base.encode(pairs, base.tokenizer())
    assert cut == 0
    end = tokenizer.eos_token_id
    first = tokens.flat[: tokens.offsets[1]].tolist()
    assert first[0] == first[-1] == end  # of pairs: opened, ended each
    assert first.count(end) == 3
    middle = first.index(end, 1)
    assert [tokenizer.decode(side) for side in (first[1:middle], first[middle + 1 : -1])] == ["the cook", "soup"]
    fine = base.model(2, 0)
    assert fine.separator is None
    assert torch.isfinite(fine(torch.from_numpy(tokens.flat[: tokens.offsets[1]][None].astype(np.int64)))).all()


def test_it_has_learnt(made: tuple[Path, Docs, Any], lab: Lab, tmp_path: Path) -> None:
    """Its weights are not those that were drawn."""
    untrained = prepare(lab, tmp_path, docs(train=train(until=0.0)))
    one, other = (AutoModel.from_pretrained(base.place) for base in (made[2], untrained))
    assert not torch.allclose(one.embeddings.word_embeddings.weight, other.embeddings.word_embeddings.weight)


@pytest.mark.parametrize("changes", [{}, {"context": 12}, {"pooling": "cls"}, {"learning_rate": 0.5}])
def test_it_is_found(lab: Lab, made: tuple[Path, Docs, Any], changes: dict[str, Any]) -> None:
    root, encoder, base = made
    before, asked = sorted(root.iterdir()), len(encoder.documents.asked)  # type: ignore[attr-defined]
    again = prepare(lab, root, replace(encoder, **changes))
    assert sorted(root.iterdir()) == before
    assert len(encoder.documents.asked) == asked == 1  # type: ignore[attr-defined]
    assert again == replace(base, **{key: value for key, value in changes.items() if key != "learning_rate"})


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"documents": FewTexts(31)}, {"train": train(total_steps=3)}, {"model": MaskedLM(1, 16, 4, 32, 300)}]
)
def test_what_its_weights_hang_on(lab: Lab, made: tuple[Path, Docs, Any], tmp_path: Path, changes: dict[str, Any]) -> None:
    other = prepare(lab, tmp_path, replace(made[1], **changes))
    assert other.key != made[2].key
    files = [(Path(place) / "model.safetensors").read_bytes() for place in (made[2].place, other.place)]
    assert files[0] != files[1]


def test_the_same_elsewhere(lab: Lab, made: tuple[Path, Docs, Any], tmp_path: Path) -> None:
    other = prepare(lab, tmp_path, docs())
    files = [(Path(place) / "model.safetensors").read_bytes() for place in (made[2].place, other.place)]
    assert files[0] == files[1]
    assert other.key == made[2].key


@pytest.mark.parametrize("context", [1, 33])
def test_a_context_that_it_does_not_read(lab: Lab, tmp_path: Path, context: int) -> None:
    with pytest.raises(InputError, match=rf"encoder\.context={context}: must be 4 to encoder\.model\.context=32"):
        prepare(lab, tmp_path, docs(context=context))
    assert not list(tmp_path.iterdir())
