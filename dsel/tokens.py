"""Token ids of a pool as one more column, computed once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dsel.artifact import Store, fingerprint
from dsel.error import InputError
from dsel.pool import SRC, TEXT, TGT, Pool, read_table, write_batches
from dsel.progress import progress

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

BATCH = 2048  # documents handed to the tokenizer at once


@dataclass(frozen=True)
class Side:
    """A column of text that becomes one of tokens: with a start token (`begin`), an end token (`end`)."""

    column: str
    begin: bool = False
    end: bool = False
    is_target: bool = False  # of a translation: some tokenizers have another vocabulary for it


def text_batches(pool: Pool, column: str = TEXT) -> Iterator[list[str]]:
    """The pool's texts, some thousand at a time."""
    for batch in pool.table.select([column]).to_batches(max_chunksize=BATCH):
        yield batch.column(0).to_pylist()


def texts_of(pool: Pool, sides: Mapping[str, Side]) -> Iterator[list[str]]:
    """The texts of all sides, some thousand at a time. Errors: a column is not there."""
    _check_columns(pool, sides)
    for side in sides.values():
        yield from text_batches(pool, side.column)


def tokenize(pool: Pool, tokenizer: PreTrainedTokenizerBase, sides: Mapping[str, Side], store: Store, key: str) -> Pool:
    """The pool with a column of tokens for each of `sides`. `key` identifies the tokenizer. Errors: a column is not there."""
    _check_columns(pool, sides)

    def build(folder: Path) -> None:
        schema = pa.schema(dict.fromkeys(sides, _token_type(tokenizer)))
        write_batches(schema, _encode(pool, Tokenize(tokenizer, sides)), folder / "tokens.arrow")

    folder, _ = store.get("tokens", fingerprint(pool.fingerprint, key), build)
    table, tokens = pool.table, read_table(folder / "tokens.arrow")
    for name in sides:
        table = table.append_column(name, tokens[name])
    return Pool(pool.name, table, pool.fingerprint)


def _check_columns(pool: Pool, sides: Mapping[str, Side]) -> None:
    for side in sides.values():
        if side.column not in pool.table.column_names:
            hint = f"pairs, by data=localized or data.{side.column}_column=" if side.column in (SRC, TGT) else "data with it"
            raise InputError(f"{pool.name}: no column {side.column!r}, which the model reads; give {hint}, or another model=")


def train_tokenizer(source: Pool, sides: Mapping[str, Side], vocab_size: int, num_documents: int, special: Sequence[str]) -> Tokenizer:
    """Byte-level BPE, by which any text of any language round-trips: one vocabulary for all sides of at most `num_documents` units of the
    pool, evenly from the whole; `special` tokens come first. Errors: a side's column is not there."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    stride = max(1, -(-len(source) // num_documents))
    sample = Pool(source.name, source.table.take(list(range(0, len(source), stride))), source.fingerprint)
    tokenizer.train_from_iterator(texts_of(sample, sides), trainer)
    return tokenizer


def start_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that opens every document: the tokenizer's bos, else eos, else cls, else 0."""
    return _first_of(tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.cls_token_id)


def end_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that ends a sentence: the tokenizer's eos, else sep, else 0."""
    return _first_of(tokenizer.eos_token_id, tokenizer.sep_token_id)


def _first_of(*candidates: object) -> int:
    return next((candidate for candidate in candidates if isinstance(candidate, int)), 0)


def _token_type(tokenizer: PreTrainedTokenizerBase) -> pa.DataType:
    return pa.list_(pa.uint16() if len(tokenizer) <= 2**16 else pa.int32())


@dataclass(frozen=True)
class Tokenize:
    """Maps a batch of documents to the same with its columns of tokens."""

    tokenizer: PreTrainedTokenizerBase
    sides: Mapping[str, Side]

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Any table with the sides' columns of text."""
        kind = _token_type(self.tokenizer)
        for name, side in self.sides.items():
            lists = [self.lists(part.column(0).to_pylist(), side) for part in batch.select([side.column]).to_batches(max_chunksize=BATCH)]
            batch = batch.append_column(name, pa.chunked_array(lists, pa.list_(kind.value_type)))
        return batch

    def lists(self, texts: list[str], side: Side) -> pa.ListArray:
        """Token ids (document,) of texts."""
        begin, end = [start_token(self.tokenizer)] * side.begin, [end_token(self.tokenizer)] * side.end
        encoded = [[*begin, *ids, *end] for ids in _ids(self.tokenizer, texts, side.is_target)]
        offsets = np.zeros(len(encoded) + 1, dtype=np.int32)
        np.cumsum([len(ids) for ids in encoded], out=offsets[1:])
        flat: npt.NDArray[np.int64] = np.concatenate([np.asarray(ids, dtype=np.int64) for ids in encoded])
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat).cast(_token_type(self.tokenizer).value_type))


def _encode(pool: Pool, tokenize: Tokenize) -> Iterator[pa.RecordBatch]:
    columns = [side.column for side in tokenize.sides.values()]
    with progress("tokenize", len(pool), "documents") as bar:
        for batch in pool.table.select(columns).to_batches(max_chunksize=BATCH):
            texts = [column.to_pylist() for column in batch.columns]
            lists = {name: tokenize.lists(own, side) for (name, side), own in zip(tokenize.sides.items(), texts, strict=True)}
            yield pa.record_batch(lists)
            bar.advance(batch.num_rows)


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str], is_target: bool) -> list[list[int]]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:  # no length warning, no masks that nobody asked for
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
    given = {"text_target": texts} if is_target else {"text": texts}
    ids: list[list[int]] = tokenizer(**given, add_special_tokens=False, verbose=False)["input_ids"]
    return ids
