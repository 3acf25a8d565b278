"""Parallel sentences in any two languages, written by Unicode's locale data, with planted noise of known kind and rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from random import Random
from typing import Any

import babel
import numpy as np
import pyarrow as pa
from babel import Locale, UnknownLocaleError
from babel.localedata import locale_identifiers

from dsel.corpus import Documents
from dsel.data.cldr import KINDS, LISTS, Render, write_sentence
from dsel.data.pairs import join_columns
from dsel.error import InputError
from dsel.pool import DOMAIN, ID, NOISE, ROW, SRC, TEXT, TGT

ALL_KINDS = (*KINDS, LISTS)


@dataclass(frozen=True)
class Pair:
    """A sentence on both sides, and what it takes to spoil its translation."""

    src: str
    tgt: str
    other: str  # a translation into a third language
    changed: str  # the translation with other numbers
    misplaced: str  # the translation of another sentence


def _truncate(pair: Pair, random: Random) -> str:
    words = pair.tgt.split()
    return " ".join(words[: len(words) // 2]) if len(words) > 1 else pair.tgt[: len(pair.tgt) // 2]


def _scramble(pair: Pair, random: Random) -> str:
    words = pair.tgt.split() if len(pair.tgt.split()) > 1 else list(pair.tgt)
    random.shuffle(words)
    return (" " if len(pair.tgt.split()) > 1 else "").join(words)


SPOIL: Mapping[str, Callable[[Pair, Random], str]] = {
    "misaligned": lambda pair, _: pair.misplaced,
    "wrong_language": lambda pair, _: pair.other,
    "copy": lambda pair, _: pair.src,
    "truncated": _truncate,
    "scrambled": _scramble,
    "numbers": lambda pair, _: pair.changed,
}


@dataclass(frozen=True)
class Localized:
    """`num_source` pairs of the kinds `kinds` as the pool, `num_target` of `target` (a kind, or "all") as the target, in two locales.

    A kind is a domain: dates, times, numbers, currencies, units, territories, languages, relative_times, lists. `noise` plants shares of
    the pool by name: misaligned, wrong_language (that of `third`), copy, truncated, scrambled, numbers. The target is clean. The pool has
    a column `noise`: the kind, null where the pair is right. No sentence hangs on how many there are.
    """

    src_locale: str = "en"
    tgt_locale: str = "de"
    third: str = "fr"
    kinds: Sequence[str] | None = None
    target: str = "all"
    num_source: int = 20_000
    num_target: int = 2_000
    noise: Mapping[str, float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("src_locale", "tgt_locale", "third"):
            _parse(getattr(self, key), key)
        for key, given in (("kinds", self.kinds or ()), ("target", (self.target,) if self.target != "all" else ())):
            for kind in given:
                if kind not in ALL_KINDS:
                    raise InputError(f"data.{key}={kind}: is none of {', '.join(ALL_KINDS)}" + " or all" * (key == "target"))
        for name, rate in self._noise.items():
            if name not in SPOIL:
                raise InputError(f"data.noise.{name}: is none of {', '.join(SPOIL)}")
            if not 0 <= rate <= 1:
                raise InputError(f"data.noise.{name}={rate}: must be between 0 and 1")
        if sum(self._noise.values()) > 1:
            raise InputError(f"data.noise: shares add up to {sum(self._noise.values()):g}; lower them to 1 or less in all")
        for key in ("num_source", "num_target"):
            if getattr(self, key) < 1:
                raise InputError(f"data.{key}={getattr(self, key)}: must be at least 1")

    def identity(self) -> dict[str, Any]:
        """Options, and the version of the locale data."""
        return {**vars(self), "babel": babel.__version__}

    def read(self) -> Documents:
        """Write both sides."""
        target_kinds = ALL_KINDS if self.target == "all" else (self.target,)
        source = self._side("source", tuple(self.kinds or ALL_KINDS), self.num_source, self._noise)
        target = self._side("target", target_kinds, self.num_target, {})
        return Documents(source=source, target=target, facts={"babel": babel.__version__})

    @property
    def _noise(self) -> Mapping[str, float]:
        return self.noise or {}

    def _side(self, side: str, kinds: Sequence[str], count: int, noise: Mapping[str, float]) -> pa.Table:
        src, tgt = _parse(self.src_locale, "src_locale"), _parse(self.tgt_locale, "tgt_locale")
        which = [kinds[number % len(kinds)] for number in range(count)]
        written = [write_sentence(kind, f"{self.seed} {side} {number}") for number, kind in enumerate(which)]
        left, right = [render(src) for render in written], [render(tgt) for render in written]
        spoiled = self._spoil(side, which, written, left, right, noise)
        columns = {
            SRC: left,
            TGT: [spoiled.get(n, ("", text))[1] for n, text in enumerate(right)],
            ID: [f"{side}-{number}" for number in range(count)],
            DOMAIN: which,
            NOISE: [spoiled[n][0] if n in spoiled else None for n in range(count)],
        }
        table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
        table = table.add_column(0, TEXT, join_columns(table[SRC], table[TGT]))
        return table.append_column(ROW, pa.array(np.arange(count, dtype=np.int64)))

    def _spoil(
        self, side: str, which: Sequence[str], written: Sequence[Render], left: Sequence[str], right: Sequence[str],
        noise: Mapping[str, float],
    ) -> dict[int, tuple[str, str]]:  # fmt: skip
        """By number of a pair, its kind of noise and what stands for its translation: always something else."""
        order, found = np.random.default_rng([self.seed, 7]).permutation(len(written)).tolist(), dict[int, tuple[str, str]]()
        third, tgt = _parse(self.third, "third"), _parse(self.tgt_locale, "tgt_locale")
        left_over = order
        for name, rate in noise.items():
            wanted, passed = round(rate * len(written)), []
            for place, number in enumerate(left_over):
                if not wanted:
                    passed += left_over[place:]
                    break
                changed = write_sentence(which[number], f"{self.seed} {side} {number}", changed=True)
                pair = Pair(left[number], right[number], written[number](third), changed(tgt), right[(number + 1 + place) % len(right)])
                text = SPOIL[name](pair, Random(f"{self.seed} {number}"))
                if text.split() == right[number].split():  # a name that is the same in both languages, a list without a number
                    passed.append(number)
                    continue
                found[number], wanted = (name, text), wanted - 1
            left_over = passed
        return found


def _parse(name: str, key: str) -> Locale:
    """Errors: Babel knows no such locale."""
    try:
        return Locale.parse(name, sep="-" if "-" in name else "_")
    except (UnknownLocaleError, ValueError) as error:
        near = get_close_matches(name, locale_identifiers(), n=3, cutoff=0.4)
        raise InputError(
            f"data.{key}={name}: Babel {babel.__version__} has no such locale; did you mean {', '.join(near) or 'en'}?"
        ) from error
