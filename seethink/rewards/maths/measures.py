"""Times of day and measures in several parts: `7:30 PM` is 19:30, and `3 h 20 min` are 200 minutes.

Neither is arithmetic: as a ratio 10:15 would be 20:30. Single measures (`5 cm`) are values with units, which `units` reads.
"""

from __future__ import annotations

import re
from calendar import month_name
from fractions import Fraction
from typing import NamedTuple

from seethink.rewards.maths.tokens import DOUBT, FAMILIES
from seethink.rewards.maths.units import canonical_unit
from seethink.rewards.numerals import DECIMAL, replace_number_words
from seethink.rewards.text import EAST, rewritten

LONGEST = 100  # characters; times and measures are short
_SIZES = {unit: (family, Fraction(size)) for family, sizes in FAMILIES.items() for unit, size in sizes.items()}
_HALF_DAY = r"(?P<half>[ap])\.?\s?m\b\.?"
_CLOCK = re.compile(
    rf"(?i)(?:at\s+)?(?P<h>[0-9]{{1,2}})(?:[:](?P<m>[0-5][0-9])(?::(?P<s>[0-5][0-9]))?\s*(?:{_HALF_DAY}|o'?clock)?|\s*(?:{_HALF_DAY.replace('half', 'only')}|(?P<sharp>o'?clock)))"
)
_EAST_CLOCK = re.compile(
    r"(?P<part>上午|早上|凌晨|下午|晚上|午前|午後|오전|오후)?\s*(?P<h>[0-9]{1,2})\s*(?:[点點時时시]|:)\s*(?:(?P<m>[0-9]{1,2})\s*[分분]?)?整?"
)
_PAST = re.compile(
    r"(?i)(?P<n>half|(?:a )?quarter|[0-9]{1,2}(?: minutes?)?) (?P<way>past|to|after|before) (?P<h>[0-9]{1,2})(?:\s*(?P<half>[ap])\.?m\.?)?"
)
_PART = re.compile(
    rf"((?:[0-9]+ )?[0-9]+/[0-9]+|{DECIMAL})\s*([a-zA-Z]+\.?|'|\"|[{EAST}]{{1,3}})\s*(?:,|and\b|&|又)?\s*"
)
_LEAD = re.compile(r"^[a-zA-Z][a-zA-Z', ]{0,60}:? ?(?=[0-9])")
_DATES = [
    re.compile(r"(?P<y>[0-9]{4})[-/.年] ?(?P<m>[0-9]{1,2})[-/.月] ?(?P<d>[0-9]{1,2})[日号號]?"),
    re.compile(r"(?P<name>[A-Za-z]{3,9})\.? (?P<d>[0-9]{1,2})(?:st|nd|rd|th)?,? (?P<y>[0-9]{4})"),
    re.compile(r"(?P<d>[0-9]{1,2})(?:st|nd|rd|th)?(?: of)? (?P<name>[A-Za-z]{3,9})\.?,? (?P<y>[0-9]{4})"),
]


class Clock(NamedTuple):
    """Seconds since midnight; `half` says am or pm where the text does, and `whole` that it counts to 24."""

    seconds: int
    half: bool
    whole: bool


def same_measure(gold: str, said: str) -> bool | None:
    """Whether two texts give the same time of day or measure in parts; None where they are not both of one kind."""
    if max(len(gold), len(said)) > LONGEST or not re.search(
        rf"[0-9] ?(?:[-:/'\"]|[a-zA-Z{EAST}])|past|\bto\b|[a-z] [0-9]", gold
    ):
        return None
    if (day := read_date(gold)) and (other_day := read_date(said)):
        return day == other_day
    lead = _LEAD.match(said)
    if lead and not DOUBT & set(re.findall(r"[a-z]+", lead[0].lower())):
        said = said[lead.end() :]
    one, other = read_clock(gold), read_clock(said)
    if one and other:
        if (one.half or one.whole) != (other.half or other.whole) and one.half != other.half:
            return one.seconds % 43200 == other.seconds % 43200  # only one of them tells morning from evening
        return one.seconds == other.seconds
    parts, others = read_parts(gold), read_parts(said)
    if parts and others and (parts[1] == others[1] == "time" or max(parts[2], others[2]) > 1):
        return parts[:2] == others[:2]
    return None


def read_date(text: str) -> tuple[int, int, int] | None:
    """Year, month and day of a date that is the whole of a text; `1/2/2003`, which has two readings, is none."""
    for match in filter(None, (pattern.fullmatch(text.strip(" .")) for pattern in _DATES)):
        found = match.groupdict()
        months = [
            n for n, name in enumerate(month_name) if n and name.lower().startswith(found.get("name", "?").lower())
        ]
        if "m" in found or len(months) == 1:
            return int(found["y"]), int(found.get("m") or months[0]), int(found["d"])
    return None


def read_clock(text: str) -> Clock | None:
    """A time of day that is the whole of a text, or None."""
    text = rewritten(text.strip(" ."), "day")
    if match := _CLOCK.fullmatch(text):
        half, hour, rest = (
            match["half"] or match["only"],
            int(match["h"]),
            60 * int(match["m"] or 0) + int(match["s"] or 0),
        )
    elif match := _PAST.fullmatch(replace_number_words(text)):
        count = {"half": 30, "quarter": 15}.get(match["n"].split()[-1].lower()) or int(match["n"].split()[0])
        before = match["way"].lower() in ("to", "before")
        half, hour, rest = match["half"], int(match["h"]) - before, 60 * (60 - count if before else count)
    elif (match := _EAST_CLOCK.fullmatch(text)) and not text.isascii():
        half = match["part"] and ("p" if match["part"] in ("下午", "晚上", "午後", "오후") else "a")
        hour, rest = int(match["h"]), 60 * int(match["m"] or 0)
    else:
        return None
    if hour > 24 or (half and hour > 12):
        return None
    late = bool(half) and half.lower() == "p"
    whole = not half and (hour > 12 or hour == 0)
    return Clock((hour % 12 + 12 * late if half else hour) * 3600 + rest, bool(half), whole)


def read_parts(text: str) -> tuple[Fraction, str, int] | None:
    """Size, family and number of parts of `5 feet 6 inches`, in the family's smallest unit; None for anything else."""
    total, families, at, count, last = Fraction(0), set(), 0, 0, ""
    text = re.sub(r"^an?\s", "1 ", replace_number_words(text.strip(" .")).replace("half an hour", "30 min"))
    while at < len(text):
        part = _PART.match(text, at)
        if not part or count > 4:
            return None
        word = {"'": "ft", '"': "in"}.get(part[2], part[2])
        unit = "min" if word == "m" and last == "h" else canonical_unit(word)
        family, size = _SIZES.get(unit, ("", Fraction(0)))
        families.add(family)
        total, at, count, last = total + sum(map(Fraction, part[1].split())) * size, part.end(), count + 1, unit
    return (total, families.pop(), count) if len(families) == 1 and "" not in families else None
