"""Near-duplicates against all pairs compared as Python sets."""

import random
import re

import pyarrow as pa
import pytest

from dsel.functional.near_duplicates import near_duplicates, shingles

WORDS = [f"w{n}" for n in range(2000)]


def text(length: int, rng: random.Random) -> list[str]:
    return [rng.choice(WORDS) for _ in range(length)]


def changed(words: list[str], count: int, rng: random.Random) -> list[str]:
    """The words, the last `count` replaced: each costs one shingle, and so do four at the border."""
    return words[: len(words) - count] + text(count, rng)


def as_sets(texts: list[str]) -> list[set[tuple[str, ...]]]:
    found = []
    for one in texts:
        tokens = re.findall(r"\w+|[^\w\s]+", one.lower())
        found.append({tuple(tokens[at : at + 5]) for at in range(max(1, len(tokens) - 4))} if tokens else set())
    return found


def by_hand(texts: list[str], jaccard: float = 0.8) -> list[bool]:
    """Whether each shares so much with one before it."""
    sets = as_sets(texts)
    return [any(a and b and len(a & b) / len(a | b) >= jaccard for b in sets[:n]) for n, a in enumerate(sets)]


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    rng = random.Random(0)
    found = [text(rng.randint(1, 200), rng) for _ in range(150)]
    found += [changed(found[n], rng.randint(0, len(found[n]) // 3), rng) for n in range(150)]
    boilerplate = text(60, rng)
    found += [boilerplate + text(40, rng) for _ in range(60)]
    rng.shuffle(found)
    texts = [" ".join(words) for words in found]
    return [*texts, "", "  ", "...", "...", texts[0].upper(), "Ein Wort", "ein  wort"]


def test_equals_all_pairs(corpus: list[str]) -> None:
    found = near_duplicates(pa.array(corpus))
    expected = by_hand(corpus)
    assert 50 < sum(expected) < 150
    assert found.tolist() == expected


def test_the_border_is_inside() -> None:
    words = [f"w{n}" for n in range(13)]  # 9 shingles; 4 words more make it 8 of 10, or 8 of 11
    base = " ".join(words[:12])
    for more, near in ((2, True), (3, False)):
        longer = " ".join([*words[:12], *(f"x{n}" for n in range(more))])
        assert by_hand([base, longer]) == [False, near]
        assert near_duplicates(pa.array([base, longer])).tolist() == [False, near]


def test_shingles_are_runs_of_tokens(corpus: list[str]) -> None:
    some = corpus[-80:]
    hashes, ends = shingles(pa.chunked_array([some[:30], some[30:]]))
    sets = as_sets(some)
    for number, one in enumerate(sets):
        own = hashes[ends[number] : ends[number + 1]]
        assert len(set(own.tolist())) == len(one)
        for other in range(number):
            shared = len(set(own.tolist()) & set(hashes[ends[other] : ends[other + 1]].tolist()))
            assert shared == len(sets[other] & one)


@pytest.mark.parametrize("texts", [[], [""], ["one text"], ["", ""]])
def test_next_to_nothing(texts: list[str]) -> None:
    assert near_duplicates(pa.array(texts, pa.string())).tolist() == [False] * len(texts)
