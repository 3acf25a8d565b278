"""What every Unicode character is to the n-gram code: part of a word, a word of its own, space or punctuation; and its lower case."""

from __future__ import annotations

import re
import sys
import unicodedata
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

PUNCTUATION, SPACE, WORD, ALONE = 0, 1, 2, 3
NUM_CHARACTERS = sys.maxunicode + 1
INHABITED = [range(0x33480), range(0xE0000, 0xE0200)]  # beyond, Unicode has no characters yet, but private ones: all punctuation here
SURROGATES = range(0xD800, 0xE000)
# Scripts that are written without spaces between words: each letter is a word, so that bigrams are pairs of letters.
UNSPACED = re.compile(
    "[\u0e01-\u0e2e\u0e30\u0e32\u0e33\u0e40-\u0e46\u0e81-\u0eae\u0eb0\u0eb2\u0eb3\u0ebd-\u0ec6\u0edc-\u0edf"  # Thai, Lao
    "\u1000-\u102a\u1050-\u1055\u1780-\u17b3"  # Myanmar, Khmer
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b-\u303c\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"  # Kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]"  # Han
)


@dataclass(frozen=True)
class Characters:
    """Tables over code points (character,): `kind` uint8, one of the four above; `lower` uint32, the lower-case code point."""

    kind: npt.NDArray[np.uint8]
    lower: npt.NDArray[np.uint32]


@cache
def characters() -> Characters:
    """Words are runs of letters, digits, marks and `_` of any script; where a script has no spaces, each letter is one.

    Marks belong to words, since many scripts write vowels with them. Lower case is by single characters.
    """
    kind = _python_kind()
    marks = [c for codes in INHABITED for c in codes if unicodedata.category(chr(c))[0] == "M"]
    kind[marks] = WORD
    kind[[start + m.start() for start, part in _inhabited() for m in UNSPACED.finditer(part)]] = ALONE
    return Characters(kind, _lower())


@cache
def python_characters() -> Characters:
    r"""As Python's `re` and `str.lower` see them, hence WordPunctTokenizer (`\w+|[^\w\s]+`) of NLTK before 3.10 and the `data-selection`
    package over it."""
    return Characters(_python_kind(), _lower())


@cache
def _inhabited() -> list[tuple[int, str]]:
    """Where each part begins, and its code points, one after the other; surrogates, which no UTF-8 holds, are spaces."""
    codes = np.arange(NUM_CHARACTERS, dtype="<u4")
    codes[SURROGATES.start : SURROGATES.stop] = ord(" ")
    return [(part.start, codes[part.start : part.stop].tobytes().decode("utf-32-le")) for part in INHABITED]


def _python_kind() -> npt.NDArray[np.uint8]:
    kind = np.full(NUM_CHARACTERS, PUNCTUATION, dtype=np.uint8)
    for start, part in _inhabited():
        for pattern, value in ((r"\w+", WORD), (r"\s+", SPACE)):
            for match in re.finditer(pattern, part):
                kind[start + match.start() : start + match.end()] = value
    return kind


def _lower() -> npt.NDArray[np.uint32]:
    """Lower case by single characters. Only \u0130 has two (i and a dot above); here it has the first of them."""
    lower = np.arange(NUM_CHARACTERS, dtype=np.uint32)
    for start, part in _inhabited():
        lowered = (
            part.replace("\u0130", "i").replace("\u03a3", "\u03c3").lower()
        )  # the two whose lower case is not one letter, always the same
        lower[start : start + len(part)] = np.frombuffer(lowered.encode("utf-32-le"), "<u4")
    lower[SURROGATES.start : SURROGATES.stop] = np.arange(SURROGATES.start, SURROGATES.stop)
    return lower
