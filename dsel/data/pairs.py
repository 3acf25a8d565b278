"""Names of the columns of parallel sentences."""

from __future__ import annotations

from collections.abc import Sequence

BETWEEN = "\t"  # the sides in `text`, by which pairs are told apart, and which scorers read that look at both


def join_sides(src: Sequence[str], tgt: Sequence[str]) -> list[str]:
    """Both sides as one text."""
    return [a + BETWEEN + b for a, b in zip(src, tgt, strict=True)]
