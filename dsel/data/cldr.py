"""Phrases that Unicode's locale data (CLDR, through Babel) write in any language: a grammar without words of its own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeVar

from babel import Locale, dates, lists, numbers, units

Render = Callable[[Locale], str]
"""Says the same in each language."""
Item = TypeVar("Item")

CURRENCIES = ("EUR", "USD", "GBP", "JPY", "CHF", "INR", "BRL", "RUB", "CNY", "KRW", "MXN", "SEK", "PLN", "TRY", "ZAR", "AUD", "CAD", "THB")
UNITS = (
    "length-kilometer", "length-meter", "length-centimeter", "length-mile", "length-foot", "mass-kilogram", "mass-gram", "mass-ton",
    "volume-liter", "volume-milliliter", "volume-gallon", "temperature-celsius", "temperature-fahrenheit", "speed-kilometer-per-hour",
    "speed-meter-per-second", "area-hectare", "area-square-kilometer", "power-watt", "power-kilowatt", "energy-calorie",
    "energy-kilowatt-hour", "pressure-hectopascal", "digital-megabyte", "digital-gigabyte", "angle-degree",
    "duration-minute", "duration-hour", "duration-day", "duration-week", "duration-month", "duration-year", "electric-volt",
)  # fmt: skip
_TERRITORIES = (
    "AD AE AF AL AM AO AR AT AU AZ BA BD BE BG BO BR BY CA CH CL CM CN CO CR CU CY CZ DE DK DO DZ EC EE EG ES ET FI FJ FR GB GE GH GR "
    "GT HN HR HU ID IE IL IN IQ IR IS IT JM JO JP KE KH KR KW KZ LA LB LK LT LU LV LY MA MC MD ME MG MK ML MN MT MX MY MZ NA NE NG NI "
    "NL NO NP NZ OM PA PE PH PK PL PT PY QA RO RS RU RW SA SD SE SG SI SK SN SV SY TD TG TH TN TR TZ UA UG US UY UZ VE VN YE ZA ZM ZW"
)
_LANGUAGES = (
    "ar bg bn ca cs da de el en es et fa fi fr ga he hi hr hu hy id is it ja ka kk ko lt lv mk mn ms nb nl pl pt ro ru sk sl sq sr sv "
    "sw ta te th tr uk ur uz vi zh"
)
TERRITORIES, LANGUAGES = tuple(_TERRITORIES.split()), tuple(_LANGUAGES.split())
LENGTHS: tuple[Literal["long"], Literal["short"], Literal["narrow"]] = ("long", "short", "narrow")
DAYS = (dt.date(2099, 12, 31) - dt.date(1900, 1, 1)).days


@dataclass
class Values:
    """Draws what a phrase speaks of. With `changed`, all numbers are others, and all else is the same."""

    random: Random
    changed: bool = False

    def number(self, low: int, high: int) -> int:
        """From `low` to `high`."""
        value, span = self.random.randint(low, high), high - low + 1
        return low + (value - low + 1 + value * 7919 % max(span - 1, 1)) % span if self.changed and span > 1 else value

    def choice(self, items: Sequence[Item]) -> Item:
        """One of them."""
        return items[self.random.randrange(len(items))]


def _date(values: Values) -> Render:
    day = dt.date(1900, 1, 1) + dt.timedelta(values.number(0, DAYS))
    style = values.choice(("full", "long", "medium"))
    return lambda locale: dates.format_date(day, style, locale)


def _time(values: Values) -> Render:
    moment = dt.datetime(2000, 1, 1) + dt.timedelta(values.number(0, 365), 60 * values.number(0, 1439))
    if values.choice((True, False)):
        return lambda locale: dates.format_time(moment, "short", None, locale)
    pattern = values.choice(("EEEE", "MMMMd", "yMMMMd"))
    return lambda locale: (
        f"{dates.format_skeleton(pattern, moment, None, True, locale)}, {dates.format_time(moment, 'short', None, locale)}"
    )


def _number(values: Values) -> Render:
    form, digits = values.choice(("plain", "plain", "percent", "compact")), values.number(2, 7)
    value = values.number(1, 10**digits)
    if form == "percent":
        return lambda locale: numbers.format_percent(value % 1000 / 100, locale=locale)
    if form == "compact":
        return lambda locale: numbers.format_compact_decimal(
            value, format_type="long" if "long" in locale.compact_decimal_formats else "short", locale=locale
        )
    decimals = values.choice((1, 1, 10, 100))
    return lambda locale: numbers.format_decimal(value / decimals, locale=locale)


def _currency(values: Values) -> Render:
    code, cents = values.choice(CURRENCIES), values.number(1, 99) if values.choice((True, False)) else 0
    amount = values.number(1, 5000) + cents / 100
    style: Literal["name", "standard"] = values.choice(("name", "name", "standard"))
    return lambda locale: numbers.format_currency(amount, code, locale=locale, format_type=style)


def _unit(values: Values) -> Render:
    unit, value = values.choice(UNITS), values.number(1, 1000) / values.choice((1, 1, 10))

    def render(locale: Locale) -> str:
        """In words, or shorter where the language has no other way; Babel gives the unit's own name for what it does not find."""
        texts = [units.format_unit(value, unit, length, locale=locale) for length in LENGTHS]
        return next((text for text in texts if unit not in text), texts[0])

    return render


def _territory(values: Values) -> Render:
    code = values.choice(TERRITORIES)
    return lambda locale: locale.territories[code]


def _language(values: Values) -> Render:
    code = values.choice(LANGUAGES)
    return lambda locale: locale.languages[code]


def _relative(values: Values) -> Render:
    unit = values.choice(("seconds", "minutes", "hours", "days", "weeks"))
    value = values.number(2, {"weeks": 3, "days": 6, "hours": 21}.get(unit, 50)) * values.choice((1, -1))
    delta = dt.timedelta(**{unit: value})
    return lambda locale: dates.format_timedelta(delta, unit[:-1], 10, True, locale=locale)  # type: ignore[arg-type]  # one of its names


KINDS: Mapping[str, Callable[[Values], Render]] = {
    "dates": _date,
    "times": _time,
    "numbers": _number,
    "currencies": _currency,
    "units": _unit,
    "territories": _territory,
    "languages": _language,
    "relative_times": _relative,
}
LISTS = "lists"  # a kind of its own: of the others


def write_sentence(kind: str, seed: str, changed: bool = False) -> Render:
    """A sentence of this kind, always the same for a seed: a phrase, two, a list of some, with a place or a language to go with it."""
    values = Values(Random(seed), changed)
    if kind == LISTS:
        return _list(values, [values.choice(tuple(KINDS.values())) for _ in range(values.choice((2, 3, 4)))])
    phrase = KINDS[kind]
    shape = values.choice(("one", "place", "place", "two", "list"))
    if shape == "one":
        return phrase(values)
    if shape == "list":
        return _list(values, [phrase] * values.choice((2, 3)))
    first = (_territory if kind != "territories" else _language)(values) if shape == "place" else phrase(values)
    second, join = phrase(values), values.choice(("{}: {}", "{} – {}", "{1} ({0})"))
    join = join if "1" in join else join.replace("{}", "{0}", 1).replace("{}", "{1}", 1)
    return lambda locale: join.format(first(locale), second(locale))


def _list(values: Values, phrases: Sequence[Callable[[Values], Render]]) -> Render:
    parts = [phrase(values) for phrase in phrases]
    style = values.choice(("standard", "or"))
    return lambda locale: lists.format_list([part(locale) for part in parts], style, locale)  # type: ignore[arg-type]
