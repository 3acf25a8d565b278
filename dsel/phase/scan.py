"""Scan: fit a scorer on the sample, map it over a source of any size, piece by piece. Scores of a piece are an artifact of their own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dsel.artifact import Store, fingerprint, hash_code, hash_module, read_record
from dsel.context import World
from dsel.error import InputError
from dsel.functional.hashing import hash_texts
from dsel.phase.score import Scoring, make_context, passes_of
from dsel.pool import DOMAIN, ID, PLANTED, ROW, TEXT, TOKENS, write_table
from dsel.protocol import FittedScore, Stream
from dsel.sieve import fill_ids
from dsel.state import State
from dsel.tokens import Tokenize

INDEX = "pieces.json"
CODE = ("dsel.functional", "dsel.training", "dsel.tokens", "dsel.objective", "dsel.pool", "dsel.sieve", "dsel.data", "dsel.phase")


@dataclass(frozen=True)
class Scan(Scoring):
    """Gives every document of the stream a number. A run that was killed goes on at the first piece that is not finished.

    A piece's scores hang on the piece and on all that the scorer may look at (its options and code, the seed, the sample of
    the source, the target, the models), not on the other pieces: where these stay the same, what is added to the source, or
    changed in it, is scored alone. `count_tokens`: lengths are asked for, even if the scorer reads no tokens.
    """

    count_tokens: bool = False

    def run(self, state: State, world: World, folder: Path) -> Mapping[str, Any]:
        """Write pieces.json: the artifact of each piece, in order, and its counts.

        Its `scores.arrow` has row, name, score_*, size (characters), and where known length (tokens), domain and planted.
        """
        tokenized = world.tokenized if self.needs_checkpoint else _as_it_is
        source, target = tokenized(world.corpus.source), tokenized(world.corpus.target)
        fitted = self.scorer.fit(source, target, make_context(self.tune, state, world, tokenized))
        tokenize = (
            Tokenize(world.tokenizer, world.objective.sides)
            if world.tokenizer and (self.count_tokens or TOKENS in self.scorer.reads)
            else None
        )
        work = partial(score_piece, fitted, tokenize, world.stream, world.corpus.excluded, world.store, _key(state, world))
        pieces = world.stream.pieces
        found = list(world.executor.map(work, pieces, [piece.num_bytes for piece in pieces], world.name, "bytes"))
        (folder / INDEX).write_text(json.dumps(found, indent=1), encoding="utf-8")
        return {"scoring_passes": passes_of(self.scorer, fitted), "scored_documents": sum(piece["documents"] for piece in found)}

    def read(self, state: State, world: World, folder: Path) -> State:
        """The state as it is: the next phase reads the pieces."""
        return state


def _as_it_is(pool: Any) -> Any:
    return pool


def _key(state: State, world: World) -> str:
    """Changes with all that scores hang on, but for the piece."""
    node = world.config["phases"].get(world.name, state.fingerprint)
    pools = {name: pool.fingerprint for name, pool in world.corpus.pools().items()}
    models = {name: folder.name for name, folder in state.checkpoints.items()}
    code = hash_code(node) | {module: hash_module(module) for module in CODE}
    excluded = hashlib.blake2b(world.corpus.excluded.tobytes(), digest_size=12).hexdigest()
    return fingerprint(world.name, world.seed, node, world.config["model"], pools, models, code, excluded, world.stream.reading)


def score_piece(
    fitted: FittedScore, tokenize: Tokenize | None, stream: Stream, excluded: npt.NDArray[np.uint64],
    store: Store, key: str, piece: Any,
) -> dict[str, Any]:  # fmt: skip
    """The piece's artifact, made or found, and what is known of it: rows read, documents scored, dropped by reason."""

    def build(folder: Path) -> Mapping[str, Any]:
        sieve, parts = stream.sieve(), []
        for table in stream.read(piece, sieve):
            names = hash_texts(table[TEXT])
            leaked = np.isin(names, excluded)
            if leaked.any():
                sieve.dropped["also_in_target"] += int(leaked.sum())
                table, names = table.filter(pa.array(~leaked)), names[~leaked]
            if table.num_rows:
                parts.append(_score(fitted, tokenize, table, names, piece))
        table = pa.concat_tables(parts, promote_options="default") if parts else pa.table({})
        write_table(table.combine_chunks(), folder / "scores.arrow")
        counts = {"read": sieve.num_read, "documents": table.num_rows, "bad": sieve.num_bad}
        return {**counts, "dropped": dict(sieve.dropped), "listed": sieve.listed}

    try:
        folder, _ = store.get("piece", fingerprint(key, piece.key), build)
    except InputError:
        raise
    except Exception as error:
        error.add_note(f"while {piece.path} was scored, from {piece.start}")
        raise
    record = read_record(folder)
    stream.sieve().accept(record["bad"], record["listed"])
    return {"artifact": folder.name, **record}


def _score(fitted: FittedScore, tokenize: Tokenize | None, table: pa.Table, names: npt.NDArray[np.uint64], piece: Any) -> pa.Table:
    table = fill_ids(table, names)
    table = tokenize(table) if tokenize else table
    scores = fitted(table)
    bad = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(bad):
        row = table.slice(int(bad[0]), 1)
        raise InputError(
            f"{piece.path}: {len(bad)} scores are not finite; first: row {row[ROW][0].as_py()} from {piece.start}, "
            f"id {row[ID][0].as_py()!r}, score {scores[bad[0]].tolist()}; leave that row out or change the scorer's options"
        )
    columns: dict[str, Any] = {"row": table[ROW], "name": names}
    columns |= {f"score_{target}": scores[:, target] for target in range(scores.shape[1])}
    columns["size"] = pc.utf8_length(table[TEXT])
    if TOKENS in table.column_names:
        columns["length"] = pc.list_value_length(table[TOKENS])
    if DOMAIN in table.column_names:
        columns["domain"] = table[DOMAIN]
    if PLANTED in table.column_names:
        columns["planted"] = table[PLANTED]
    return pa.table(columns)
