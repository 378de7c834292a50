"""Units and nouns behind a number: told apart from the number, and from each other where they are known units.

Only the end of a text is looked at; a unit is short.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from seethink.rewards.maths.tokens import FUNCTIONS
from seethink.rewards.numerals import replace_number_words
from seethink.rewards.text import lines_of

TAIL = 60
SCALES = {"hundred": "*100", "thousand": "*1000", "million": "*1000000", "billion": "*1000000000"}
NO_UNIT = {
    "or", "and", "e", "i", "pi", "is", "not", "to", "by", "if", "times", "mod", "plus", "minus", "wrong", "incorrect",
}  # fmt: skip

_ONE = r"(?:(?:square|cubic|sq\b\.?|cu\b\.?)\s*)?[a-zA-Z]+\.?(?:\s+(?:squared|cubed)\b)?(?:\s*\^\s*\{?\s*[0-9]\s*\}?)?"
_PLAIN = re.compile(rf"(?P<gap>\s*)(?P<unit>{_ONE}(?:\s*(?:/|\bper\b)\s*{_ONE})?)$")
_TEXT = re.compile(
    r"(?:\\[,;: ]|[\s~])*(?:\\(?:text|textbf|textnormal|mathrm|mbox|rm)\s*\{(?P<unit>[^{}]*)\}|(?<![a-zA-Z])\{(?P<bare>[a-z]{4,})\})"
    r"(?P<power>\s*\^\s*\{?\s*[0-9]\s*\}?)?$"
)
_NUMBER_AND_NOUN = re.compile(
    r"(\\?\$?\s*[-+]?[0-9][0-9.,/]*|[-+]?\\frac\{[0-9]+\}\{[0-9]+\})\s+([a-zA-Z]{2,}(?:[\s-]+[a-zA-Z]{2,}){0,3}[\s-]*)"
)
_POWERS = (("2", re.compile(r"\bsquare(?!d)|\bsq\b\.?|\bsquared\b")), ("3", re.compile(r"\bcubic|\bcu\b\.?|\bcubed\b")))


def split_unit(text: str, glued: bool = False) -> tuple[str, str]:
    """Expression and canonical unit. Percent words become a percent sign, scale words a factor, other nouns vanish.

    `3s` is a product and `3 s` three seconds; with `glued` both are seconds.
    """
    text = replace_number_words(text) if re.search(r"[a-z]{3}", text) else text
    head, words, marked, gap = _tail(text.replace("per cent", "percent"))
    if re.fullmatch(r"\\?%|percent|pct\.?", words):
        return f"{head}%", ""
    if words in SCALES:
        return f"({head}){SCALES[words]}", ""
    known = "" if words in NO_UNIT else canonical_unit(words)
    if known and (marked or gap or glued or re.match(r"[a-zA-Z]{2}", words)):
        return head, known
    if marked and re.fullmatch(r"[a-zA-Z ./-]{2,}", words) and not set(words.split()) & NO_UNIT:
        return head, ""
    noun = _NUMBER_AND_NOUN.fullmatch(text) if len(text) < 2 * TAIL else None
    if noun and not set(noun[2].lower().split()) & (NO_UNIT | FUNCTIONS.keys()):
        return noun[1], ""
    return text, ""


def canonical_unit(words: str) -> str:
    """`square centimetres`, `cm^2` and `cm squared` as `cm^2`; '' for a word that is no known unit."""
    parts = []
    for part in re.split(r"\s*(?:/|\bper\b)\s*", words.strip()):
        power = re.search(r"\^\s*\{?\s*([0-9])", part)
        exponent = power[1] if power else next((e for e, words in _POWERS if words.search(part)), "")
        name = re.sub(r"\^.*", "", part)
        for _, word in _POWERS:
            name = word.sub("", name)
        if name.strip(" .") not in known_units():
            return ""
        parts.append(known_units()[name.strip(" .")] + (f"^{exponent}" if exponent else ""))
    return "/".join(parts)


@cache
def known_units() -> dict[str, str]:
    """Spelling -> canonical name, from units.txt."""
    return {name: line.split()[0] for line in lines_of(Path(__file__).with_name("units.txt")) for name in line.split()}


def _tail(text: str) -> tuple[str, str, bool, bool]:
    """What stands before the last words, the words, whether LaTeX marks them as text, and whether a blank parts them."""
    start = max(0, len(text) - TAIL)
    found = _TEXT.search(text[start:])
    if found and start + found.start() > 0:
        words = (found["unit"] or found["bare"] or "").strip() + (found["power"] or "")
        return text[: start + found.start()].rstrip(), words, True, True
    found = _PLAIN.search(text[start:])
    if not found or start + found.start() == 0:
        return text, "", False, False
    head, gap = text[: start + found.start()], bool(found["gap"])
    ends_a_value = head[-1] in "0123456789}])!."
    is_unit = ends_a_value or (gap and len(found["unit"]) > 1)
    return (head, found["unit"], False, gap) if is_unit else (text, "", False, False)
