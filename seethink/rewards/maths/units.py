"""Units and nouns behind a number: told apart from the number, and from each other where they are known units.

Only the end of a text is looked at; a unit is short. A word that is neither a unit nor a noun (`72 at least`, `72 was ruled
out`) stays where it is, and the text is no formula.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

from seethink.rewards.maths.tokens import DOUBT, FUNCTIONS, LETTER_SCALES, PARTS, SCALES, VERBS
from seethink.rewards.numerals import replace_number_words
from seethink.rewards.text import EAST, lines_of, rewritten

TAIL = 60
NO_UNIT = {"or", "and", "e", "i", "pi", "to", "by", "if", "times", "mod", "plus", "minus"} | VERBS | DOUBT
CHANGES = NO_UNIT | FUNCTIONS.keys() | SCALES.keys()
"""Words that are no noun behind a number."""

_POWER = r"(?:\s*\^\s*\{?\s*(-?[0-9])\s*\}?)"
_ONE = rf"(?:[a-zA-ZΩμ]+\.?|[{EAST}]{{1,6}}){_POWER.replace('(-', '(?:-')}?"
_JOINT = r"\s*(?:/\s*\(?|[·⋅*]|\s)\s*"
_END = [
    re.compile(rf"(?P<gap>\s*)(?P<unit>{_ONE}(?:{joint}{_ONE}){{0,3}}\)?)$") for joint in (_JOINT, r"\s*/\s*")
]  # all words, then as few as make a unit
_BRACKETED = re.compile(rf"(?P<gap>\s*)[(\[]\s*(?P<unit>{_ONE}(?:{_JOINT}{_ONE}){{0,3}})\s*[)\]]$")
_UNIT_PIECE = re.compile(rf"([/(·⋅*\s]*)([^\W\d_]+)\.?{_POWER}?")
_TEXT = re.compile(
    r"(?:\\[,;: ]|[\s~])*(?:\\(?:text|textbf|textnormal|mathrm|mbox|rm)\s*\{(?P<unit>[^{}]*)\}|(?<![a-zA-Z])\{(?P<bare>[a-z]{4,})\})"
    r"(?P<power>\s*\^\s*\{?\s*-?[0-9]\s*\}?)?$"
)
_TEMPERATURE = re.compile(
    r"(?:\s*\^?\s*\{?\s*(?:\\circ|\\degree|°)\s*\}?|\s+deg(?:rees?)?\b)\s*(?:\\(?:text|mathrm|rm)\s*\{)?\s*(?P<unit>C|F|[Cc]elsius|[Ff]ahrenheit)\s*\}?$"
)
_VALUE = r"(?:\\?\$?\s*[-+]?[0-9][0-9.,/]*|[-+]?\\frac\{[0-9]+\}\{[0-9]+\})"
_NUMBER_AND_NOUN = re.compile(rf"({_VALUE})\s+([a-zA-Z]{{2,}}(?:[\s-]+[a-zA-Z]{{2,}}){{0,3}}[\s-]*)")
_REMARK = re.compile(rf"(.*{_VALUE})\s*[(\[]([a-zA-Z]{{2,}}\.?(?:[\s-]+[a-zA-Z]{{2,}}\.?){{0,4}})[)\]]")
_IN_WORDS = re.compile(rf"(?i)(?:([0-9]+)\s+and\s+)?(?:(an?|[0-9]+)[\s-]+)?({'|'.join(PARTS)})")
_LETTER_SCALED = re.compile(rf"({_VALUE})\s?({'|'.join(LETTER_SCALES)})")


def split_unit(text: str, glued: bool = False) -> tuple[str, str]:
    """Expression and canonical unit. Percent words become a percent sign, scale words a factor, other nouns vanish.

    `3s` is a product and `3 s` three seconds; with `glued` both are seconds.
    """
    text = replace_number_words(text) if re.search(r"[a-z]{3}", text) else text
    if worded := _IN_WORDS.fullmatch(text):  # `half`, `3-fourths`, `2 and a half`
        count = worded[2] if worded[2] and worded[2].isdigit() else "1"
        return f"({worded[1] or 0}+{count}/{PARTS[worded[3].lower()]})", ""
    text = rewritten(text, "measure")
    if temperature := _TEMPERATURE.search(text[-TAIL:]):
        return text[: len(text) - len(temperature[0])], "°" + temperature["unit"][0].upper()
    for head, words, marked, gap in _tails(text.replace("per cent", "percent")):
        if re.fullmatch(r"\\?%|percent|pct\.?", words):
            return f"{head}%", ""
        if words in SCALES:
            return f"({head}){SCALES[words]}", ""
        known = "" if words in NO_UNIT else canonical_unit(words)
        if known and (marked or gap or glued or re.match(rf"[a-zA-Z]{{2}}|[Ωμ{EAST}]", words)):
            return head, known
        if marked and re.fullmatch(r"[a-zA-Z ./-]{2,}", words) and not set(words.split()) & NO_UNIT:
            return head, ""
    for pattern in (_NUMBER_AND_NOUN, _REMARK) if len(text) < 2 * TAIL else ():
        noun = pattern.fullmatch(text)
        if noun and is_noun(noun[2]):
            return noun[1], ""
    return text, ""


def with_letter_scale(text: str) -> str:
    """`9.5K`, as charts write it, in full; other texts as they are."""
    scaled = _LETTER_SCALED.fullmatch(text)
    return f"({scaled[1]}){LETTER_SCALES[scaled[2]]}" if scaled else text


def is_noun(words: str) -> bool:
    """True for words that may stand behind a number without changing what is claimed: no verb, no bound, no doubt."""
    found = re.findall(r"[a-z]+", words.lower())
    return bool(found) and not set(found) & CHANGES and not found[-1].endswith(("ed", "ly"))


def canonical_unit(words: str) -> str:
    """`square centimetres`, `cm^2` and `cm squared` as `cm^2`; '' for words that are no known unit."""
    powers: Counter[str] = Counter()
    words = rewritten(words, "unit").strip(" )")
    at, grouped = 0, False
    for piece in _UNIT_PIECE.finditer(words):
        joint, name, power = piece[1], known_units().get(piece[2]), int(piece[3] or 1)
        if piece.start() != at or not name:
            return ""
        below = "/" in joint or (grouped and "·" in joint)
        at, grouped = piece.end(), "(" in joint or (grouped and below)
        powers[name] += -power if below else power
    if at != len(words):
        return ""
    over, under = (
        [f"{n}^{abs(p)}" if abs(p) > 1 else n for n, p in sorted(powers.items()) if p * sign > 0] for sign in (1, -1)
    )
    return "/".join("·".join(names) for names in (over, under) if names)


@cache
def known_units() -> dict[str, str]:
    """Spelling -> canonical name, from units.txt."""
    return {name: line.split()[0] for line in lines_of(Path(__file__).with_name("units.txt")) for name in line.split()}


def _tails(text: str) -> list[tuple[str, str, bool, bool]]:
    """Ways to part the last words from a text: what is before them, the words, whether LaTeX marks them, whether a blank does."""
    start = max(0, len(text) - TAIL)
    end, ways = text[start:], []
    if (found := _TEXT.search(end)) and start + found.start() > 0:
        words = (found["unit"] or found["bare"] or "").strip() + (found["power"] or "")
        ways.append((text[: start + found.start()].rstrip(), words, True, True))
    plain = rewritten(end, "unit")
    for pattern in (*_END, _BRACKETED):
        found = pattern.search(plain)
        if not found or start + found.start() == 0:
            continue
        head, gap = text[:start] + plain[: found.start()], bool(found["gap"])
        ends_a_value = head[-1] in "0123456789}])!."
        if ends_a_value or (gap and len(found["unit"]) > 1):
            ways.append((head, found["unit"], False, gap))
    return ways
