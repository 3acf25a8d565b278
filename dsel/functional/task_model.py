"""An encoder, a pooled embedding of each text, and a linear head: what is tuned on one task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

from dsel.error import InputError
from dsel.functional.blocks import IGNORE
from dsel.functional.embedding import load_model, mean_pool
from dsel.functional.pairs import Ragged, by_length, rectangle

Vectors = npt.NDArray[np.float32]

POOLINGS = ("cls", "mean", "pooler")
HEAD, CARD, ENCODER = "head.safetensors", "task.json", "encoder"


class TaskModel(torch.nn.Module):
    """`encoder` is any of transformers that reads a text at once. `separator` is the token between the two texts of a pair, for encoders
    that tell their sides apart, else None."""

    def __init__(self, encoder: torch.nn.Module, pooling: str, num_outputs: int, separator: int | None = None) -> None:
        super().__init__()
        self.encoder, self.pooling, self.separator = encoder, pooling, separator
        self.head = torch.nn.Linear(int(encoder.config.hidden_size), num_outputs)  # type: ignore[union-attr, arg-type]
        torch.nn.init.normal_(self.head.weight, std=0.02)
        torch.nn.init.zeros_(self.head.bias)

    @property
    def config(self) -> Any:
        """The encoder's."""
        return self.encoder.config

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Outputs (row, output) of tokens (row, time), padded with `IGNORE`: logits of classes, or a number."""
        outputs: torch.Tensor = self.head(self.embed(tokens))
        return outputs

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """Pooled last states (row, dim): the first token's, its pooled output, or the mean over real tokens. Errors: it has no pooler."""
        tokens = tokens.to(self.head.weight.device)
        real = tokens != IGNORE
        types = {} if self.separator is None else {"token_type_ids": _second_side(tokens, self.separator)}
        found = self.encoder(input_ids=tokens.clamp_min(0), attention_mask=real.long(), **types)
        if self.pooling == "cls":
            first: torch.Tensor = found.last_hidden_state[:, 0]
            return first
        if self.pooling == "pooler":
            pooled: torch.Tensor | None = getattr(found, "pooler_output", None)
            if pooled is None:
                raise InputError("encoder.pooling=pooler: the encoder has no pooler; give encoder.pooling=cls or mean")
            return pooled
        if self.pooling != "mean":
            raise InputError(f"encoder.pooling={self.pooling}: must be one of {', '.join(POOLINGS)}")
        return mean_pool(found.last_hidden_state, real)

    def save(self, folder: Path, card: dict[str, Any]) -> None:
        """Write weights, in transformers' and safetensors' files, and a card, to which options are added."""
        self.encoder.save_pretrained(folder / ENCODER)  # type: ignore[operator]
        save_file({name: value.detach().cpu().contiguous() for name, value in self.head.state_dict().items()}, folder / HEAD)
        card = {**card, "pooling": self.pooling, "separator": self.separator}
        (folder / CARD).write_text(json.dumps(card, indent=1), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> tuple[TaskModel, dict[str, Any]]:
        """A model in evaluation mode, and its card."""
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        head = load_file(folder / HEAD)
        with torch.random.fork_rng():
            model = TaskModel(load_weights(str(folder / ENCODER)), card["pooling"], len(head["bias"]), card["separator"])
        model.head.load_state_dict(head)
        return model.eval(), card


def load_weights(place: str, revision: str | None = None, with_pooler: bool = False) -> torch.nn.Module:
    """The encoder in a folder or of a hub name, in float32 and ready to train, on a GPU where there is one. Errors: none can be loaded, or
    its files lack the pooler that is asked for."""
    try:
        model, missing = load_model(place, revision)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"encoder.path={place}: no encoder can be loaded from that folder or hub name ({reason})") from error
    if with_pooler and any("pooler" in key for key in missing):
        raise InputError(f"encoder.pooling=pooler: {place} has no weights of a pooler; give encoder.pooling=cls or mean")
    return model


def _second_side(tokens: torch.Tensor, separator: int) -> torch.Tensor:
    """1 behind the first separator (row, time), else 0."""
    ends = (tokens == separator).long()
    return ((ends.cumsum(1) - ends) > 0).long()


def run_rows(model: TaskModel, tokens: Ragged, longest: int, tokens_per_batch: int) -> tuple[Vectors, Vectors]:
    """Embeddings (row, dim) and outputs (row, output) of all rows, in their order, in float32."""
    embeddings = outputs = np.empty((0, 0), np.float32)
    with torch.inference_mode():
        for which in by_length(tokens.lengths.clip(max=longest), tokens_per_batch):
            pooled = model.embed(torch.from_numpy(rectangle(tokens, which, longest)))
            parts = pooled.float().cpu().numpy(), model.head(pooled).float().cpu().numpy()
            if not len(embeddings):
                embeddings, outputs = (np.empty((len(tokens.lengths), part.shape[1]), np.float32) for part in parts)
            embeddings[which], outputs[which] = parts
    return embeddings, outputs
