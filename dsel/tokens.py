"""Token ids of a pool as one more column, computed once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.artifact import Store, fingerprint
from dsel.pool import TEXT, TOKENS, Pool, read_table, write_batches
from dsel.progress import progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH = 2048  # documents handed to the tokenizer at once


def text_batches(pool: Pool) -> Iterator[list[str]]:
    """The pool's texts, some thousand at a time."""
    for batch in pool.table.select([TEXT]).to_batches(max_chunksize=BATCH):
        yield batch.column(0).to_pylist()


def tokenize(pool: Pool, tokenizer: PreTrainedTokenizerBase, store: Store, key: str) -> Pool:
    """The pool with its `dsel_tokens` column: a start token, then the text's tokens. `key` identifies the tokenizer."""

    def build(folder: Path) -> None:
        write_batches(pa.schema({TOKENS: _token_type(tokenizer)}), _encode(pool, tokenizer), folder / "tokens.arrow")

    folder, _ = store.get("tokens", fingerprint(pool.fingerprint, key), build)
    tokens = read_table(folder / "tokens.arrow")[TOKENS]
    return Pool(pool.name, pool.table.append_column(TOKENS, tokens), pool.fingerprint)


def start_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that opens every document: the tokenizer's bos, else eos, else cls, else 0."""
    for candidate in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.cls_token_id):
        if isinstance(candidate, int):
            return candidate
    return 0


def _token_type(tokenizer: PreTrainedTokenizerBase) -> pa.DataType:
    return pa.list_(pa.uint16() if len(tokenizer) <= 2**16 else pa.int32())


@dataclass(frozen=True)
class Tokenize:
    """Maps a batch of documents to the same with its `dsel_tokens` column."""

    tokenizer: PreTrainedTokenizerBase

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Any table with `text`."""
        lists = [self.lists(part.column(0).to_pylist()) for part in batch.select([TEXT]).to_batches(max_chunksize=BATCH)]
        return batch.append_column(TOKENS, pa.chunked_array(lists, pa.list_(_token_type(self.tokenizer).value_type)))

    def lists(self, texts: list[str]) -> pa.ListArray:
        """Token ids (document,) of texts."""
        start, kind = start_token(self.tokenizer), _token_type(self.tokenizer)
        encoded = [[start, *ids] for ids in _ids(self.tokenizer, texts)]
        offsets = np.zeros(len(encoded) + 1, dtype=np.int32)
        np.cumsum([len(ids) for ids in encoded], out=offsets[1:])
        flat: npt.NDArray[np.int64] = np.concatenate([np.asarray(ids, dtype=np.int64) for ids in encoded])
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat).cast(kind.value_type))


def _encode(pool: Pool, tokenizer: PreTrainedTokenizerBase) -> Iterator[pa.RecordBatch]:
    lists = Tokenize(tokenizer).lists
    with progress("tokenize", len(pool), "documents") as bar:
        for texts in text_batches(pool):
            yield pa.record_batch({TOKENS: lists(texts)})
            bar.advance(len(texts))


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:  # no length warning, no masks that nobody asked for
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return ids
