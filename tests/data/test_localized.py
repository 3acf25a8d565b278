"""Sentences that locale data write: what a number of theirs hangs on, and what noise is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from babel import Locale
from hypothesis import given, settings
from hypothesis import strategies as st

from dsel.data.cldr import LANGUAGES, TERRITORIES, UNITS
from dsel.data.localized import ALL_KINDS, NOISES, Localized
from dsel.error import InputError

SMALL = Localized(num_source=600, num_target=60)


def rows(data: Localized, side: str = "source") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = getattr(data.read(), side).to_pylist()
    return found


def test_sides_say_the_same_in_two_languages() -> None:
    pairs = rows(SMALL)
    assert [row["domain"] for row in pairs[:9]] == list(ALL_KINDS)
    assert all(row["src"] and row["tgt"] and row["text"] == f"{row['src']}\t{row['tgt']}" for row in pairs)
    assert all(row["dsel_noise"] is None for row in pairs)
    assert len({row["text"] for row in pairs}) > 550
    digits = [
        [sorted(filter(str.isdigit, row[side])) for row in pairs if row["domain"] in ("units", "currencies")] for side in ("src", "tgt")
    ]
    assert digits[0] == digits[1]  # units and prices are the same, whatever the words


def test_a_sentence_does_not_hang_on_the_others() -> None:
    few, many = rows(SMALL), rows(replace(SMALL, num_source=900))
    assert many[:600] == few
    assert rows(replace(SMALL, seed=1)) != few
    only = rows(replace(SMALL, target="units"), "target")
    assert {row["domain"] for row in only} == {"units"}


@pytest.mark.parametrize("locale", ["de", "fr", "ru", "zh_Hans", "ja", "ar", "hi", "pt-BR"])
def test_any_language(locale: str) -> None:
    parsed = Locale.parse(locale, sep="-" if "-" in locale else "_")
    assert set(TERRITORIES) <= set(parsed.territories)
    assert set(LANGUAGES) <= set(parsed.languages)
    assert not any(unit in row["tgt"] for row in rows(replace(SMALL, tgt_locale=locale)) for unit in UNITS)  # a name that was not found


@settings(deadline=None, max_examples=10)
@given(rates=st.lists(st.integers(0, 15), min_size=len(NOISES), max_size=len(NOISES)), seed=st.integers(0, 99))
def test_noise_is_of_its_kind_and_rate(rates: list[int], seed: int) -> None:
    noise = {name: rate / 100 for name, rate in zip(NOISES, rates, strict=True)}
    data = replace(SMALL, num_source=100, seed=seed)
    clean, noisy = rows(data), rows(replace(data, noise=noise))
    found = Counter(row["dsel_noise"] for row in noisy if row["dsel_noise"])
    assert found == {name: round(rate * 100) for name, rate in noise.items() if rate}
    for before, after in zip(clean, noisy, strict=True):
        assert after["src"] == before["src"]
        same = after["tgt"].split() == before["tgt"].split()
        assert same == (after["dsel_noise"] is None)
        match after["dsel_noise"]:
            case "copy":
                assert after["tgt"] == after["src"]
            case "truncated":
                assert " ".join(before["tgt"].split()).startswith(after["tgt"])
            case "scrambled":
                assert sorted("".join(after["tgt"].split())) == sorted("".join(before["tgt"].split()))
            case "numbers":
                assert any(c.isdigit() for c in before["tgt"]) or before["domain"] in ("relative_times", "dates", "times", "lists")
            case "misaligned":
                assert after["tgt"] in {row["tgt"] for row in clean}


def test_the_target_is_clean() -> None:
    noisy = replace(SMALL, noise={"misaligned": 0.5, "copy": 0.5})
    assert rows(noisy, "target") == rows(SMALL, "target")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tgt_locale": "xx"}, r"data.tgt_locale=xx: Babel .* has no such locale; did you mean "),
        ({"src_locale": "german"}, r"data.src_locale=german: Babel .* has no such locale"),
        ({"kinds": ["dates", "poems"]}, r"data.kinds=poems: is none of dates, times"),
        ({"target": "poems"}, r"data.target=poems: is none of dates, .* or all"),
        ({"noise": {"typos": 0.1}}, r"data.noise.typos: is none of misaligned, "),
        ({"noise": {"copy": 1.5}}, r"data.noise.copy=1.5: must be between 0 and 1"),
        ({"noise": {"copy": 0.6, "numbers": 0.6}}, r"data.noise: shares add up to 1.2; lower them"),
        ({"num_source": 0}, r"data.num_source=0: must be at least 1"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Localized(**options)
