"""Slices of the order of units that are too many to be sorted in memory, exactly: the middle of a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dsel.functional.ranking import middle_out

Keys: TypeAlias = npt.NDArray[np.float64]
Names: TypeAlias = npt.NDArray[np.uint64]
Parts: TypeAlias = Callable[[], Iterable[tuple[Keys, Names]]]
"""Keys and names (unit,) of some units at a time: the same ones, in the same parts, at every call."""

MOST_AT_ONCE = 1 << 23  # units whose names are compared at a time
DIGITS, DIGIT_BITS = 4, 16  # a 64-bit word is looked at in 4 digits of 16 bits, hence a histogram of 65,536 counts
ONE = np.uint64(1)


class Order:
    """The order of units by key, largest first, ties by name. Of units with one name only the first counts; of those with one
    key, the one that comes first. Memory: a bit a unit, and what is asked for; time: some passes over all of them.
    """

    def __init__(self, parts: Parts, most_at_once: int = MOST_AT_ONCE) -> None:
        self.parts = parts
        self.sizes = [len(keys) for keys, _ in parts()]
        self.starts = np.cumsum([0, *self.sizes])
        self.counted = [np.packbits(np.ones(size, bool)) for size in self.sizes]
        passes = max(1, -(-int(self.starts[-1]) // most_at_once))
        for number in range(passes):
            self._drop(self._repeats(number, passes))

    def __len__(self) -> int:
        """Units that count."""
        return sum(int(np.bitwise_count(bits).sum()) for bits in self.counted)

    def mask(self, part: int) -> npt.NDArray[np.bool_]:
        """Which units of a part count (unit,)."""
        return np.unpackbits(self.counted[part], count=self.sizes[part]).astype(bool)

    def between(self, first: int, last: int) -> npt.NDArray[np.int64]:
        """The units at places `first` to `last` - 1, in order, numbered through all parts."""
        if first >= last:
            return np.empty(0, np.int64)
        low, high = self._at([first, last - 1])
        found: list[tuple[Names, Names, npt.NDArray[np.int64]]] = []
        for start, code, name, unit in self._counting():
            after = (code > low[0]) | ((code == low[0]) & (name >= low[1]))
            before = (code < high[0]) | ((code == high[0]) & (name <= high[1]))
            inside = after & before
            found.append((code[inside], name[inside], start + unit[inside]))
        code, name, unit = (np.concatenate(column) for column in zip(*found, strict=True))
        return np.asarray(unit[np.lexsort((name, code))], dtype=np.int64)

    def middle(self, count: int) -> npt.NDArray[np.int64]:
        """The `count` units around the middle of the order, from there outwards, as `middle_out` has them."""
        num_units = len(self)
        first = (num_units - count) // 2
        return middle_out(self.between(first, first + count), (num_units - 1) / 2 - first)

    def _counting(self) -> Iterator[tuple[int, Names, Names, npt.NDArray[np.int64]]]:
        """Of each part: its first unit's number, and of those that count code (ascending), name and number in the part."""
        for part, (keys, names) in enumerate(self.parts()):
            unit = np.flatnonzero(self.mask(part))
            yield int(self.starts[part]), descending(keys[unit]), names[unit], unit

    def _repeats(self, number: int, passes: int) -> npt.NDArray[np.int64]:
        """Units whose name another one has that stands before them, of those names that are looked at in this pass."""
        codes, names, units = [], [], []
        for start, (keys, some) in zip(self.starts[:-1].tolist(), self.parts(), strict=True):
            here = np.flatnonzero(some % np.uint64(passes) == number) if passes > 1 else np.arange(len(some))
            codes.append(descending(keys[here]))
            names.append(some[here])
            units.append(start + here)
        code, name, unit = (np.concatenate(column) if column else np.empty(0, np.uint64) for column in (codes, names, units))
        order = np.lexsort((unit, code, name))
        return np.sort(unit[order[1:][name[order[1:]] == name[order[:-1]]]]).astype(np.int64)

    def _drop(self, units: npt.NDArray[np.int64]) -> None:
        bounds = np.searchsorted(units, self.starts)
        for part in np.flatnonzero(np.diff(bounds)).tolist():
            mask = self.mask(part)
            mask[units[bounds[part] : bounds[part + 1]] - self.starts[part]] = False
            self.counted[part] = np.packbits(mask)

    def _at(self, places: list[int]) -> list[tuple[np.uint64, np.uint64]]:
        """Code and name of the units at these places: a digit a pass, the one on which the place falls in the digits' histogram."""
        found = [[np.uint64(0), np.uint64(0)] for _ in places]
        left = list(places)
        for digit in range(2 * DIGITS):
            word, shift = divmod(digit, DIGITS)[0], np.uint64(64 - DIGIT_BITS * (digit % DIGITS + 1))
            counts = np.zeros((len(places), 1 << DIGIT_BITS), np.int64)
            for _, code, name, _ in self._counting():
                for row, (known_code, known_name) in enumerate(found):
                    value, known = (code, known_code) if word == 0 else (name[code == known_code], known_name)
                    above = (value >> shift) >> np.uint64(DIGIT_BITS) == (known >> shift) >> np.uint64(DIGIT_BITS)
                    low = ((value[above] >> shift) & np.uint64((1 << DIGIT_BITS) - 1)).astype(np.int64)
                    counts[row] += np.bincount(low, minlength=1 << DIGIT_BITS)
            for row, total in enumerate(np.cumsum(counts, axis=1)):
                at = int(np.searchsorted(total, left[row], side="right"))
                left[row] -= int(total[at - 1]) if at else 0
                found[row][word] |= np.uint64(at) << shift
        return [(code, name) for code, name in found]


def descending(keys: Keys) -> Names:
    """Whole numbers (unit,) whose ascending order is the descending order of the keys."""
    bits = (np.asarray(keys, np.float64) + 0.0).view(np.uint64)  # minus zero is zero
    sign = bits >> np.uint64(63) == ONE
    return np.where(sign, bits, ~(bits | ONE << np.uint64(63)))
