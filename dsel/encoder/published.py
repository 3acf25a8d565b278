"""An encoder that exists: in a folder, or on the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsel.artifact import fingerprint, hash_file
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
        return [[path.name, hash_file(path)] for path in _files(folder)] if folder.is_dir() else None

    def prepare(self, world: World) -> BaseEncoder:
        """Where it is. Errors: it cannot be loaded, or reads fewer tokens than `context`."""
        place = self._place()
        key = fingerprint(place, self.revision, self.pooling, self.context, self.identity())
        base = BaseEncoder(place, self.name or self.path, self.pooling, self.context, key, self.revision)
        base.check()
        return base

    def _place(self) -> str:
        return (
            minilm("encoder.path") if self.path == MINILM else str(Path(self.path).expanduser()) if Path(self.path).is_dir() else self.path
        )


def _files(folder: Path) -> Iterator[Path]:
    return iter(sorted({path for pattern in READ for path in folder.glob(pattern)}))
