"""Plain numbers, exactly: digits with sign, thousands groups, decimals and exponent; number words.

Nothing here is a float: a count of 123456789123456789 is not 1.23456789e17, and no text can make these functions slow.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

MAX_EXPONENT = 4000
"""Also of digits that are written out: Python refuses to read integers of more than 4,300."""

# `1,000`, `1{,}000`, `1\,000`, `1,\! 000` and `1 000`: groups of exactly three digits, one separator throughout
THOUSANDS = r"[0-9]{1,3}(?:(?:,|\{,\}|\\,|,\\!\s?|\\ |\s)[0-9]{3})+(?![0-9])"
DECIMAL = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
NUMBER = rf"[-+]?(?:{THOUSANDS}(?:\.[0-9]+)?|{DECIMAL})(?:[eE][-+]?[0-9]+)?"
_PLAIN = re.compile(rf"([+-]?)\s*({THOUSANDS}(?:\.[0-9]+)?|{DECIMAL})(?:[eE]([+-]?[0-9]{{1,6}}))?")
_SEPARATORS = re.compile(r"\{,\}|\\,|,\\!\s?|\\ |,|\s")


class Plain(NamedTuple):
    """A number as it was written: exact value, and digits after the point (None for an integer literal)."""

    value: Fraction
    decimals: int | None


def plain_number(text: str) -> Plain | None:
    """The number that is the whole of `text`, or None."""
    match = _PLAIN.fullmatch(text.strip())
    if not match:
        return None
    sign, digits, exponent = match[1], match[2], int(match[3] or 0)
    separators = {separator.strip() for separator in _SEPARATORS.findall(digits)}
    if max(abs(exponent), len(digits)) > MAX_EXPONENT or len(separators) > 1:
        return None
    whole, point, decimals = _SEPARATORS.sub("", digits).partition(".")
    value = Fraction(int(whole + decimals or "0"), 10 ** len(decimals)) * Fraction(10) ** exponent
    return Plain(-value if sign == "-" else value, max(0, len(decimals) - exponent) if point or exponent else None)


SMALL = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
WORDS = {word: n for n, word in enumerate(SMALL)} | {word: 10 * n for n, word in enumerate(TENS, 2)}
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_BELOW_100 = rf"(?:(?:{'|'.join(TENS)})(?:[\s-]+(?:{'|'.join(SMALL[1:10])})\b)?|(?:{'|'.join(reversed(SMALL))}))"
_BELOW_1000 = rf"(?:{_BELOW_100}\s+hundred(?:\s+(?:and\s+)?{_BELOW_100})?|{_BELOW_100})"
_SCALED = rf"(?:\s+(?:{'|'.join(SCALES)})(?:\s+(?:and\s+)?{_BELOW_1000})?)?"
_EAST_DIGITS = {c: n for n, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "兩": 2}
_EAST_TENS = {"十": 10, "百": 100, "千": 1000}
_EAST_NUMBER = re.compile(f"(?!一[共般定样樣致])[{''.join((*_EAST_DIGITS, *_EAST_TENS))}]+")
_IN_WORDS = re.compile(rf"(?i)\b{_BELOW_1000}{_SCALED}\b")


def replace_number_words(text: str) -> str:
    """Text with every number in words ("twenty-one", "one thousand") written in digits; `十二` where there are no digits."""
    if not text.isascii() and not re.search("[0-9]", text):
        text = _EAST_NUMBER.sub(lambda run: str(_read_east(run[0])), text)
    return _IN_WORDS.sub(lambda run: str(_read_words(run[0].lower())), text)


def _read_east(text: str) -> int:
    total = digit = 0
    for character in text:
        if character in _EAST_TENS:
            total, digit = total + max(digit, 1) * _EAST_TENS[character], 0
        else:
            digit = 10 * digit * (digit > 0) + _EAST_DIGITS[character]
    return total + digit


def _read_words(text: str) -> int:
    total = group = 0
    for word in re.findall(r"[a-z]+", text):
        if word in SCALES:
            total, group = total + group * SCALES[word], 0
        else:
            group = group * 100 if word == "hundred" else group + WORDS.get(word, 0)
    return total + group
