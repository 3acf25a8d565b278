"""Parallel sentences in any two languages, written by Unicode's locale data, with planted noise of known kind and rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from dsel.data.cldr import KINDS, LISTS, write_sentence
from dsel.data.noise import SPOIL, Pair, Spoil, check_noise, plant_noise
from dsel.error import InputError
from dsel.pool import DOMAIN, ID, ROW, SRC, TGT

ALL_KINDS = (*KINDS, LISTS)
NOISES = (*SPOIL, "wrong_language", "numbers")


@dataclass(frozen=True)
class Localized:
    """`num_source` pairs of the kinds `kinds` as the pool, `num_target` of `target` (a kind, or "all") as the target, in two locales.

    A kind is a domain: dates, times, numbers, currencies, units, territories, languages, relative_times, lists. `noise` plants shares of
    the pool by name: misaligned, wrong_language (that of `third`), copy, truncated, scrambled, numbers. The target is clean. The pool has
    a column `dsel_noise`: the kind, null where the pair is right. No sentence hangs on how many there are.
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
        check_noise(self.noise or {}, NOISES)
        for key in ("num_source", "num_target"):
            if getattr(self, key) < 1:
                raise InputError(f"data.{key}={getattr(self, key)}: must be at least 1")

    def identity(self) -> dict[str, Any]:
        """Options, and the version of the locale data."""
        return {**vars(self), "babel": babel.__version__}

    def read(self) -> Documents:
        """Write both sides."""
        target_kinds = ALL_KINDS if self.target == "all" else (self.target,)
        source = self._side("source", tuple(self.kinds or ALL_KINDS), self.num_source, self.noise or {})
        target = self._side("target", target_kinds, self.num_target, {})
        return Documents(source=source, target=target, facts={"babel": babel.__version__})

    def _side(self, side: str, kinds: Sequence[str], count: int, noise: Mapping[str, float]) -> pa.Table:
        src, tgt, third = (_parse(getattr(self, key), key) for key in ("src_locale", "tgt_locale", "third"))
        which = [kinds[number % len(kinds)] for number in range(count)]
        written = [write_sentence(kind, f"{self.seed} {side} {number}") for number, kind in enumerate(which)]
        columns = {
            SRC: [render(src) for render in written],
            TGT: [render(tgt) for render in written],
            ID: [f"{side}-{number}" for number in range(count)],
            DOMAIN: which,
        }

        def change(pair: Pair, _: Random) -> str:
            return write_sentence(which[pair.number], f"{self.seed} {side} {pair.number}", changed=True)(tgt)

        spoil: Mapping[str, Spoil] = {**SPOIL, "wrong_language": lambda pair, _: written[pair.number](third), "numbers": change}
        table = plant_noise(pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()}), noise, self.seed, spoil)
        return table.append_column(ROW, pa.array(np.arange(count, dtype=np.int64)))


def _parse(name: str, key: str) -> Locale:
    """Errors: Babel knows no such locale."""
    try:
        return Locale.parse(name, sep="-" if "-" in name else "_")
    except (UnknownLocaleError, ValueError) as error:
        near = get_close_matches(name, locale_identifiers(), n=3, cutoff=0.4)
        raise InputError(
            f"data.{key}={name}: Babel {babel.__version__} has no such locale; did you mean {', '.join(near) or 'en'}?"
        ) from error
