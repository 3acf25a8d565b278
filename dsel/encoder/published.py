"""An encoder that exists: in a folder, or on the Hugging Face Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsel.artifact import fingerprint, hash_folder
from dsel.base_encoder import BaseEncoder
from dsel.context import World
from dsel.functional.embedding import MINILM, minilm

READ = ("*.safetensors", "config.json", "tokenizer*", "vocab*", "merges.txt", "*.model")


@dataclass(frozen=True)
class Published:
    """`transformers.AutoModel.from_pretrained(path)` and its tokenizer; "minilm" is the sentence encoder all-MiniLM-L6-v2 of the extra
    `dsel[encoder]`. `name` is the base model that maps say they are for (null: the path). It is tuned with `learning_rate` where nobody
    says otherwise."""

    path: str
    name: str | None = None
    revision: str | None = None
    pooling: str = "pooler"
    context: int = 128
    learning_rate: float = 2.0e-5

    def identity(self) -> Any:
        """Hashes of the files of a local folder."""
        folder = Path(self._place())
        return hash_folder(folder, READ) if folder.is_dir() else None

    def prepare(self, world: World) -> BaseEncoder:
        """Where it is. Errors: it cannot be loaded, or reads fewer tokens than `context`."""
        place = self._place()
        key = fingerprint(place, self.revision, self.pooling, self.context, self.identity())
        base = BaseEncoder(place, self.name or self.path, self.pooling, self.context, key, self.revision)
        base.check()
        return base

    def _place(self) -> str:
        if self.path == MINILM:
            return minilm("encoder.path")
        folder = Path(self.path).expanduser()
        return str(folder) if folder.is_dir() else self.path
