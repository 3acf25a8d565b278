"""The encoder that all of a run's models begin from."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from dsel.error import InputError
from dsel.functional.blocks import flat_tokens
from dsel.functional.pairs import Ragged
from dsel.labelled import LabelledTask

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from dsel.functional.task_model import TaskModel

FILE = "base.json"


@dataclass(frozen=True)
class BaseEncoder:
    """Weights and tokenizer in the folder, or under the hub name, `place`; `name` is what maps made for it say. An embedding is pooled by
    `pooling` ("cls", "mean", "pooler") from the first `context` tokens. `key` changes with all that it computes."""

    place: str
    name: str
    pooling: str
    context: int
    key: str
    revision: str | None = None

    def save(self, folder: Path) -> None:
        """Write it down."""
        place = Path(self.place)
        beside = place.is_absolute() and place.is_relative_to(folder.parent)  # an artifact: its folder may move
        record = {**asdict(self), "place": os.path.relpath(place, folder) if beside else self.place, "beside": beside}
        (folder / FILE).write_text(json.dumps(record, indent=1), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> BaseEncoder:
        """What `save` wrote."""
        record = json.loads((folder / FILE).read_text(encoding="utf-8"))
        beside = record.pop("beside")
        return BaseEncoder(**{**record, "place": str((folder / record["place"]).resolve()) if beside else record["place"]})

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Loaded once. Errors: there is none."""
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        from transformers import AutoTokenizer

        try:
            found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(self.place, revision=self.revision)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"encoder.path={self.place}: no tokenizer can be loaded from that folder or hub name ({reason})") from error
        return found

    def check(self) -> BaseEncoder:
        """Itself. Errors: a pooling that there is not, or that the encoder lacks; nothing to load; fewer positions than `context`."""
        from dsel.functional.task_model import POOLINGS, load_weights

        if self.pooling not in POOLINGS:
            raise InputError(f"encoder.pooling={self.pooling}: must be one of {', '.join(POOLINGS)}")
        tokenizer = self.tokenizer()
        least = tokenizer.num_special_tokens_to_add(pair=True) + 1
        if self.context < least:
            raise InputError(f"encoder.context={self.context}: must be at least {least}, two texts' special tokens and one more")
        encoder = load_weights(self.place, self.revision, self.pooling == "pooler")
        if self.pooling == "pooler" and getattr(encoder, "pooler", None) is None:
            raise InputError(f"encoder.pooling=pooler: {self.name} has no pooler; give encoder.pooling=cls or mean")
        num_words = int(encoder.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
        if len(tokenizer) > num_words:
            raise InputError(
                f"encoder.path={self.place}: its tokenizer has {len(tokenizer)} tokens, its weights {num_words}; mend the folder"
            )
        self._try_longest(encoder)
        return self

    def _try_longest(self, encoder: torch.nn.Module) -> None:
        """Errors: the encoder does not read `context` tokens; some have fewer places for them than their config says."""
        import torch

        most = getattr(encoder.config, "max_position_embeddings", None)
        tokens = torch.ones(1, self.context, dtype=torch.long, device=next(encoder.parameters()).device)
        try:
            with torch.inference_mode():
                encoder.eval()(input_ids=tokens + 1, attention_mask=tokens)
        except (IndexError, RuntimeError, ValueError) as error:
            told = f" ({most} places)" if most else ""
            raise InputError(f"encoder.context={self.context}: {self.name} does not read so many tokens{told}; set it lower") from error

    def dim(self) -> int:
        """Of an embedding; read once."""
        return self._dim

    @cached_property
    def _dim(self) -> int:
        from transformers import AutoConfig

        return int(AutoConfig.from_pretrained(self.place, revision=self.revision).hidden_size)

    def model(self, num_outputs: int, seed: int) -> TaskModel:
        """The encoder with a new head, drawn from `seed`."""
        import torch

        from dsel.functional.task_model import TaskModel, load_weights

        encoder = load_weights(self.place, self.revision)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return TaskModel(encoder, self.pooling, num_outputs, self._separator(encoder)).to(next(encoder.parameters()).device)

    def _separator(self, encoder: torch.nn.Module) -> int | None:
        """The token after the first side, where the encoder was shown which side a token is of."""
        tokenizer = self.tokenizer()
        tells = "token_type_ids" in tokenizer.model_input_names and getattr(encoder.config, "type_vocab_size", 0) > 1
        separator = tokenizer.sep_token_id
        return separator if tells and isinstance(separator, int) and separator != tokenizer.cls_token_id else None

    def encode(self, task: LabelledTask, tokenizer: PreTrainedTokenizerBase) -> tuple[Ragged, int]:
        """Tokens of each row, pairs joined by the tokenizer's separator and the longer side cut first; and how many rows were cut."""
        pairs = task.second is not None
        second = [text or "" for text in task.second] if task.second is not None else None
        backend = tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        ids = tokenizer(list(task.first), second, verbose=False, return_attention_mask=False)["input_ids"]
        cut = [row for row, own in enumerate(ids) if len(own) > self.context]
        if cut:
            strategy = "longest_first" if pairs else True
            shorter = tokenizer(
                [task.first[row] for row in cut], [second[row] for row in cut] if second else None, verbose=False,
                truncation=strategy, max_length=self.context, return_attention_mask=False,
            )["input_ids"]  # fmt: skip
            for row, own in zip(cut, shorter, strict=True):
                ids[row] = own
        return Ragged(*flat_tokens(pa.array(ids, pa.list_(pa.int64())))), len(cut)
