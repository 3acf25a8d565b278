"""Noise of known kind and rate, planted into parallel sentences."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from random import Random

import numpy as np
import pyarrow as pa

from dsel.data.pairs import join_columns
from dsel.error import InputError
from dsel.pool import NOISE, SRC, TEXT, TGT


@dataclass(frozen=True)
class Pair:
    """A sentence, its translation, and the translation of another sentence."""

    number: int
    src: str
    tgt: str
    misplaced: str


Spoil = Callable[[Pair, Random], str]
"""What stands for the translation."""


def _truncate(pair: Pair, random: Random) -> str:
    words = pair.tgt.split()
    return " ".join(words[: len(words) // 2]) if len(words) > 1 else pair.tgt[: len(pair.tgt) // 2]


def _scramble(pair: Pair, random: Random) -> str:
    words = pair.tgt.split() if len(pair.tgt.split()) > 1 else list(pair.tgt)
    random.shuffle(words)
    return (" " if len(pair.tgt.split()) > 1 else "").join(words)


SPOIL: Mapping[str, Spoil] = {
    "misaligned": lambda pair, _: pair.misplaced,
    "copy": lambda pair, _: pair.src,
    "truncated": _truncate,
    "scrambled": _scramble,
}


def check_noise(noise: Mapping[str, float], known: Collection[str] = SPOIL) -> None:
    """Errors: a kind that is not known, a rate that is no share, more than all."""
    for name, rate in noise.items():
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.4)
            raise InputError(f"data.noise.{name}: is none of {', '.join(known)}" + (f"; did you mean {near[0]}?" if near else ""))
        if not 0 <= rate <= 1:
            raise InputError(f"data.noise.{name}={rate}: must be between 0 and 1")
    if sum(noise.values()) > 1:
        raise InputError(f"data.noise: shares add up to {sum(noise.values()):g}; lower them to 1 or less in all")


def plant_noise(table: pa.Table, noise: Mapping[str, float], seed: int, known: Mapping[str, Spoil] = SPOIL) -> pa.Table:
    """The pairs, of which these shares have another translation than the right one; column `dsel_noise` says of which kind, null where
    the pair is right. One that its noise would leave as it is (a name, scrambled) is passed over."""
    left, right = table[SRC].to_pylist(), table[TGT].to_pylist()
    found: dict[int, tuple[str, str]] = {}
    waiting = np.random.default_rng([seed, 7]).permutation(len(right)).tolist()
    for name, rate in noise.items():
        wanted, passed = round(rate * len(right)), []
        for place, number in enumerate(waiting):
            if not wanted:
                passed += waiting[place:]
                break
            pair = Pair(number, left[number], right[number], right[(number + 1 + place) % len(right)])
            text = known[name](pair, Random(f"{seed} {number}"))
            if text.split() == right[number].split():
                passed.append(number)
                continue
            found[number], wanted = (name, text), wanted - 1
        waiting = passed
    kinds = pa.array([found[number][0] if number in found else None for number in range(len(right))], pa.string())
    texts = pa.array([found.get(number, ("", text))[1] for number, text in enumerate(right)], pa.string())
    table = table.set_column(table.column_names.index(TGT), TGT, pa.chunked_array([texts]))
    both = join_columns(table[SRC], table[TGT])
    at = table.column_names.index(TEXT) if TEXT in table.column_names else None
    table = table.add_column(0, TEXT, both) if at is None else table.set_column(at, TEXT, both)
    return table.append_column(NOISE, kinds)
